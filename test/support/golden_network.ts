/**
 * The network in which `test/fixture/golden/matrix-*.txt` were recorded: `kp` is
 * the node, `cl` a host that routes through it.
 *
 * @module
 */
import { answers, type Question } from "./answers.ts";
import type { MatrixRow } from "./golden_matrix.ts";
import { type Namespace, Network } from "./netns.ts";

export const NODE_IP = "10.200.0.2";
export const CLIENT_IP = "10.201.0.50";
/** The first is on the node, the second on another one; both are in reach. */
export const POD_IPS = ["10.200.0.11", "10.200.0.12"];
export const POD_PORTS = [26_880, 8081, 5000, 5500, 8080].map((port) =>
  `tcp/${port}`
)
  .concat("udp/5353");
export const EXTERNAL_IPS = ["198.51.100.40", "203.0.113.70"];

export interface GoldenNetwork {
  readonly node: Namespace;
  readonly outside: Namespace;
}

/** Endpoints listen when this returns; the stack ends it all. */
export async function goldenNetwork(
  stack: AsyncDisposableStack,
): Promise<GoldenNetwork> {
  const net = stack.use(await Network.create({ hosts: ["outside"] }));
  const outside = net.host("outside");
  await readdress(net.node, { outside, pods: net.pods });
  for (const [index, pod] of net.pods.entries()) {
    const ip = POD_IPS[index] ?? "";
    const listen = POD_PORTS.map((each) => each.replace("/", `/${ip}/`));
    stack.use(await pod.endpoint(listen, ip));
  }
  return { node: net.node, outside };
}

/** The addresses of the recording, on top of the network's own. */
async function readdress(
  node: Namespace,
  { outside, pods }: { outside: Namespace; pods: readonly Namespace[] },
): Promise<void> {
  const batch = (namespace: Namespace, lines: readonly string[]) =>
    namespace.run(["ip", "-batch", "-"], { stdin: lines.join("\n") + "\n" });
  for (const [index, pod] of pods.entries()) {
    await batch(pod, [`addr add ${POD_IPS[index]}/24 dev eth0`]);
  }
  await node.run([
    "sysctl",
    "-q",
    "-w",
    "net.ipv4.ip_forward=1",
    // The way on is the way back here: redirects would use up the ICMPs that the
    // kernel sends to one host, and refusals are ICMPs.
    "net.ipv4.conf.all.send_redirects=0",
    "net.ipv4.conf.eth0.send_redirects=0",
  ]);
  await batch(node, [
    `addr add ${NODE_IP}/24 dev cbr0`,
    `route add ${CLIENT_IP} dev eth0`,
  ]);
  const services = ["10.96.0.0/16", `${NODE_IP}/32`, ...EXTERNAL_IPS];
  await batch(outside, [
    `addr add ${CLIENT_IP}/32 dev eth0`,
    ...services.map((to) =>
      `route add ${to} via ${node.ipv4} src ${CLIENT_IP}`
    ),
  ]);
}

/**
 * Asks every row, all of a client at once, each until what was recorded has been
 * seen; `check` has a step for each.
 */
export async function askRows(
  t: Deno.TestContext,
  { node, outside }: GoldenNetwork,
  rows: readonly MatrixRow[],
  check: (got: ReadonlySet<string>, row: MatrixRow) => void,
): Promise<void> {
  for (
    const [client, namespace] of [["kp", node], ["cl", outside]] as const
  ) {
    const own = rows.filter((row) => row.client === client);
    const questions = own.map(({ url, answers }): Question => ({
      protocol: url.protocol === "udp:" ? "udp" : "tcp",
      ip: url.hostname,
      port: url.port === "" ? 80 : Number(url.port),
      want: answers,
    }));
    const got = await answers(namespace, questions);
    for (const [i, row] of own.entries()) {
      await t.step(
        `${client} → ${row.url}`,
        () => check(got[i] ?? new Set(), row),
      );
    }
  }
}
