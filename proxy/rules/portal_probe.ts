/**
 * Tries out a portal before anybody relies on it: a connection from the node,
 * and a datagram that the node has to forward, as it does for its pods. In: an
 * IP family. Out: what does not answer, and why.
 *
 * @module
 */
import type { NamespaceOpener } from "../engine/engine.ts";
import type { IpFamily } from "../ip.ts";
import { CommandError, type CommandRunner } from "./command.ts";
import { NODE_END, PORTAL_PATH } from "./portal_namespace.ts";

/** Addresses for probing: in the portal, and of the guest that dials it. */
export const PROBE_TARGETS: Readonly<
  Record<IpFamily, { readonly portal: string; readonly guest: string }>
> = {
  IPv4: { portal: "169.254.107.4", guest: "169.254.107.5" },
  IPv6: {
    portal: "fd6b:7562:652d:706f:7274:616c:0:4",
    guest: "fd6b:7562:652d:706f:7274:616c:0:5",
  },
};

/** A namespace for the time of a probe, as a pod's would be. */
const GUEST = {
  name: "kube-portal-probe",
  path: "/run/netns/kube-portal-probe",
  nodeEnd: "kube-portal1",
  nodeMac: "02:6b:70:00:00:03",
  mac: "02:6b:70:00:00:04",
};
const GUEST_NEXT_HOP: Readonly<Record<IpFamily, string>> = {
  IPv4: "169.254.107.6",
  IPv6: "fe80::6b70:3",
};

/** How long an answer on this very machine may take. */
const ANSWER_TIMEOUT_MS = 1_000;

/** A datagram may be lost while neighbours and routes settle. */
const RESEND_MS = 200;

export interface ProbeOptions {
  readonly runner: CommandRunner;
  readonly namespaces: NamespaceOpener;
  readonly signal: AbortSignal;
}

/** Why nothing answers, each as the rest of a sentence; `undefined` if it does. */
export interface ProbeResult {
  readonly node: string | undefined;
  readonly forwarded: string | undefined;
}

export type ProbePortal = (
  family: IpFamily,
  options: ProbeOptions,
) => Promise<ProbeResult>;

/** The real one. Leaves nothing behind. */
export async function probePortal(
  family: IpFamily,
  options: ProbeOptions,
): Promise<ProbeResult> {
  const node = await probeFromNode(family, options);
  if (node !== undefined) return { node, forwarded: undefined };
  return { node, forwarded: await probeForwarded(family, options) };
}

async function probeFromNode(
  family: IpFamily,
  { namespaces, signal }: ProbeOptions,
): Promise<string | undefined> {
  const hostname = PROBE_TARGETS[family].portal;
  try {
    using listener = namespaces.openIn(
      PORTAL_PATH,
      () => Deno.listen({ hostname, port: 0 }),
    );
    const { port } = listener.addr;
    const timeout = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    const dial = Deno.connect({
      hostname,
      port,
      signal: AbortSignal.any([signal, timeout]),
    });
    using _connection = await dial;
    return undefined;
  } catch (error) {
    signal.throwIfAborted();
    if (!(error instanceof Error)) throw error;
    const why = error.name === "TimeoutError"
      ? "nothing answers"
      : error.message;
    return `a connection from the node to the namespace fails (${family}): ${why}`;
  }
}

async function probeForwarded(
  family: IpFamily,
  options: ProbeOptions,
): Promise<string | undefined> {
  await removeGuest(options);
  try {
    await makeGuest(family, options);
    if (await isEchoed(family, options)) return undefined;
    return await isForwarding(family, options)
      ? `the node's firewall does not let packets through to the namespace (${family}; chain FORWARD, link "${NODE_END.name}")`
      : `the node forwards no packets: ${
        family === "IPv4"
          ? "net.ipv4.ip_forward"
          : "net.ipv6.conf.all.forwarding"
      } is off`;
  } catch (error) {
    options.signal.throwIfAborted();
    if (!(error instanceof Error)) throw error;
    return `forwarding cannot be tried out (${family}): ${error.message}`;
  } finally {
    await removeGuest(options);
  }
}

async function makeGuest(
  family: IpFamily,
  { runner, signal }: ProbeOptions,
): Promise<void> {
  const { name, nodeEnd, nodeMac, mac } = GUEST;
  const ip = PROBE_TARGETS[family].guest;
  const hop = GUEST_NEXT_HOP[family];
  const flag = family === "IPv4" ? "-4" : "-6";
  const prefix = family === "IPv4" ? "32" : "128 nodad";
  const batch = (flags: readonly string[], lines: readonly string[]) =>
    runner.run(["ip", flag, ...flags, "-batch", "-"], {
      signal,
      stdin: lines.join("\n") + "\n",
    });
  await runner.run(["ip", "netns", "add", name], { signal });
  await batch([], [
    `link add ${nodeEnd} address ${nodeMac} type veth peer name probe0 address ${mac} netns ${name}`,
    `link set ${nodeEnd} up`,
    `neigh replace ${ip} lladdr ${mac} dev ${nodeEnd} nud permanent`,
    `route replace ${ip} dev ${nodeEnd}`,
  ]);
  await batch(["-n", name], [
    "link set probe0 up",
    `addr add ${ip}/${prefix} dev probe0`,
    `neigh replace ${hop} lladdr ${nodeMac} dev probe0 nud permanent`,
    `route replace default via ${hop} dev probe0 onlink`,
  ]);
}

async function removeGuest({ runner, signal }: ProbeOptions): Promise<void> {
  for (
    const command of [["link", "del", GUEST.nodeEnd], [
      "netns",
      "del",
      GUEST.name,
    ]]
  ) {
    try {
      await runner.run(["ip", ...command], { signal });
    } catch (error) {
      // There is none: the usual case.
      if (!(error instanceof CommandError)) throw error;
    }
  }
}

/** Whether a datagram from the guest comes back from the portal. */
async function isEchoed(
  family: IpFamily,
  { namespaces }: ProbeOptions,
): Promise<boolean> {
  const { portal, guest } = PROBE_TARGETS[family];
  const open = (path: string, hostname: string) =>
    namespaces.openIn(
      path,
      () => Deno.listenDatagram({ transport: "udp", hostname, port: 0 }),
    );
  const echo = open(PORTAL_PATH, portal);
  let client: Deno.DatagramConn | undefined;
  try {
    client = open(GUEST.path, guest);
    const echoing = answerOne(echo);
    const { promise, resolve } = Promise.withResolvers<boolean>();
    const received = client.receive().then(() => resolve(true), () => {});
    const deadline = setTimeout(() => resolve(false), ANSWER_TIMEOUT_MS);
    const send = () => {
      client?.send(new Uint8Array(1), echo.addr).catch(() => {});
    };
    send();
    const again = setInterval(send, RESEND_MS);
    const isHeard = await promise;
    clearTimeout(deadline);
    clearInterval(again);
    client.close();
    client = undefined;
    echo.close();
    await Promise.all([received, echoing]);
    return isHeard;
  } catch (error) {
    client?.close();
    closeQuietly(echo);
    throw error;
  }
}

async function answerOne(socket: Deno.DatagramConn): Promise<void> {
  try {
    const [data, from] = await socket.receive();
    await socket.send(data, from);
  } catch {
    // It was closed, with nothing to answer.
  }
}

function closeQuietly(socket: Deno.DatagramConn): void {
  try {
    socket.close();
  } catch {
    // It is.
  }
}

async function isForwarding(
  family: IpFamily,
  { runner, signal }: ProbeOptions,
): Promise<boolean> {
  const flag = family === "IPv4" ? "-4" : "-6";
  const text = await runner.run(
    ["ip", flag, "netconf", "show", "dev", GUEST.nodeEnd],
    { signal },
  );
  // Of one device it prints no JSON, even if asked to (iproute2 6.1).
  return !text.includes(" forwarding off ");
}
