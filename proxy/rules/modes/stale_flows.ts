/**
 * UDP flows that the kernel goes on leading to endpoints which no longer serve:
 * it rewrites a flow as it did its first datagram, whatever the rules say since
 * (facts 10.48–10.55). Which flows those are is pure; the list is read and the
 * flows are deleted with `conntrack`. TCP is never touched (fact 10.54).
 *
 * @module
 */
import { canonicalIp, formatHostPort, type IpFamily } from "../../ip.ts";
import type { CommandRunner } from "../command.ts";
import { deleteFlows } from "../conntrack.ts";
import type { ModePort } from "./mode_input.ts";

/** One UDP ServicePort, as flows see it. */
export interface UdpTarget {
  /** `ip:port` of its addresses, without node ports. */
  readonly addresses: ReadonlySet<string>;
  /** 0: none. */
  readonly nodePort: number;
  /** `ip:port` of endpoints that serve, by any policy (fact 10.49). */
  readonly endpoints: ReadonlySet<string>;
}

/**
 * What flows are held against; of other protocols nothing. One that is gone is
 * a target without endpoints (facts 10.52, 10.53).
 */
export function udpTarget(
  { servicePort, endpoints }: Pick<ModePort, "servicePort" | "endpoints">,
  { isGone = false }: { isGone?: boolean } = {},
): UdpTarget | undefined {
  if (servicePort.protocol !== "UDP") return undefined;
  const { clusterIP, externalIPs, loadBalancerIPs, portNumber } = servicePort;
  const serving = isGone ? [] : endpoints.filter((each) => each.serving);
  return {
    addresses: new Set(
      [clusterIP, ...externalIPs, ...loadBalancerIPs].map((ip) =>
        formatHostPort(ip, portNumber)
      ),
    ),
    nodePort: servicePort.nodePort,
    endpoints: new Set(serving.map(({ key }) => key)),
  };
}

/** The addresses that a line names first are the client's side of the flow. */
const FLOW_REGEXP =
  /src=(\S+) dst=(\S+) sport=(\d+) dport=(\d+).*? src=(\S+) dst=\S+ sport=(\d+) dport=\d+/;

/**
 * Lines for `conntrack -R`: each deletes a flow to one of the targets that is
 * answered by something else than an endpoint of it.
 *
 * @param listing of `conntrack -L -p udp`
 * @param localIps where node ports are: a flow to that port elsewhere is
 *   somebody else's, which upstream does not ask (fact 10.50)
 */
export function staleFlows(
  listing: string,
  targets: readonly UdpTarget[],
  { family, localIps }: { family: IpFamily; localIps: readonly string[] },
): string[] {
  const byAddress = new Map<string, UdpTarget>();
  const byNodePort = new Map<number, UdpTarget>();
  for (const target of targets) {
    for (const address of target.addresses) byAddress.set(address, target);
    if (target.nodePort !== 0) byNodePort.set(target.nodePort, target);
  }
  const local = new Set(localIps);
  return listing.split("\n").flatMap((line) => {
    const flow = FLOW_REGEXP.exec(line);
    if (flow === null) return [];
    const [, src = "", dst = "", sport, dport, from = "", fromPort] = flow;
    const ip = canonicalIp(dst) ?? dst;
    const target = byAddress.get(formatHostPort(ip, Number(dport))) ??
      (local.has(ip) ? byNodePort.get(Number(dport)) : undefined);
    if (target === undefined) return [];
    const answers = formatHostPort(canonicalIp(from) ?? from, Number(fromPort));
    if (target.endpoints.has(answers)) return [];
    const client = `-s ${src} --sport ${sport}`;
    return [
      `-D -p udp -f ${family.toLowerCase()} ${client} -d ${dst} --dport ${dport}\n`,
    ];
  });
}

/**
 * Makes the kernel forget them.
 *
 * @returns how many flows
 * @throws {CommandError} without `conntrack`, or the privilege
 */
export async function forgetStaleFlows(
  targets: readonly UdpTarget[],
  options: {
    readonly family: IpFamily;
    readonly localIps: readonly string[];
    readonly runner: CommandRunner;
    readonly signal: AbortSignal;
  },
): Promise<number> {
  if (targets.length === 0) return 0;
  const { family, runner, signal } = options;
  const listing = await runner.run(
    ["conntrack", "-L", "-p", "udp", "-f", family.toLowerCase()],
    { signal },
  );
  const lines = staleFlows(listing, targets, options);
  await deleteFlows(lines, { runner, signal });
  return lines.length;
}
