/**
 * Makes the kernel forget where UDP flows went: it rewrites a flow as it did
 * its first datagram, whatever the rules say since, and a client that goes on
 * from one port (DNS, syslog) would never come to the new place.
 *
 * @module
 */
import { canonicalIp, formatHostPort, type IpFamily } from "../ip.ts";
import { CommandError, type CommandRunner } from "./command.ts";

/**
 * Forgets all flows to these UDP addresses, so that their next datagrams are
 * led anew. One list, and one more run where there is something to forget.
 *
 * @returns how many flows were forgotten
 * @throws {CommandError} without `conntrack`, or the privilege
 */
export async function forgetUdpFlows(
  to: readonly { readonly ip: string; readonly port: number }[],
  options: { family: IpFamily; runner: CommandRunner; signal: AbortSignal },
): Promise<number> {
  if (to.length === 0) return 0;
  const { runner, signal } = options;
  const family = options.family.toLowerCase();
  const wanted = new Set(to.map(({ ip, port }) => formatHostPort(ip, port)));
  const list = await runner.run(
    ["conntrack", "-L", "-p", "udp", "-f", family],
    {
      signal,
    },
  );
  const lines: string[] = [];
  for (const line of list.split("\n")) {
    const flow = FLOW_REGEXP.exec(line);
    if (flow === null) continue;
    const [, src = "", dst = "", sport = "", dport = ""] = flow;
    const key = formatHostPort(canonicalIp(dst) ?? dst, Number(dport));
    if (!wanted.has(key)) continue;
    const from = `-s ${src} --sport ${sport}`;
    lines.push(`-D -p udp -f ${family} ${from} -d ${dst} --dport ${dport}\n`);
  }
  await deleteFlows(lines, { runner, signal });
  return lines.length;
}

/**
 * Deletes flows, each a line for `conntrack -R`; none is nothing to do.
 *
 * @throws {CommandError}
 */
export async function deleteFlows(
  lines: readonly string[],
  { runner, signal }: { runner: CommandRunner; signal: AbortSignal },
): Promise<void> {
  if (lines.length === 0) return;
  try {
    await runner.run(["conntrack", "-R", "-"], {
      signal,
      stdin: lines.join(""),
    });
  } catch (error) {
    // One that ended by itself since it was listed is forgotten too.
    const isGone = error instanceof CommandError &&
      error.stderr.includes("0 flow entries");
    if (!isGone) throw error;
  }
}

/** The first addresses of a line are the ones that the client knows. */
const FLOW_REGEXP = /src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+)/;
