/**
 * The network in which `test/fixture/golden/matrix-*.txt` were recorded: `kp` is
 * the node, `cl` a host that routes through it. And the tables themselves.
 *
 * @module
 */
import { answers, type Question } from "./answers.ts";
import { type Namespace, Network } from "./netns.ts";

export const NODE_IP = "10.200.0.2";
export const CLIENT_IP = "10.201.0.50";
/** The first is on the node, the second on another one; both are in reach. */
export const POD_IPS = ["10.200.0.11", "10.200.0.12"];
const POD_PORTS = [26_880, 8081, 5000, 5500, 8080].map((port) => `tcp/${port}`)
  .concat("udp/5353");
const EXTERNAL_IPS = ["198.51.100.40", "203.0.113.70"];

export interface GoldenNetwork {
  readonly node: Namespace;
  readonly outside: Namespace;
}

/** One line of a table: who asked what, and what came. */
export interface GoldenRow {
  readonly client: "kp" | "cl";
  readonly url: URL;
  /** `refused`, `timeout`, or the endpoint that answered and whom it saw. */
  readonly answers: ReadonlySet<string>;
}

/** Reads `from kp | NAME | http://10.96.7.223:26880/ | 3 10.200.0.11:26880 saw …;` */
export function goldenMatrix(text: string): GoldenRow[] {
  return text.trimEnd().split("\n").map((line) => {
    const [from = "", , url = "", answers = ""] = line.split(" | ");
    const seen = answers.split(";").filter((each) => each !== "")
      .map((each) => {
        const [, what = "", , whom = ""] = each.split(" ");
        if (what === "curl-exit-7") return "refused";
        if (what === "curl-exit-28") return "timeout";
        return `${what.replace("udp-", "").split(":")[0]} saw ${whom}`;
      });
    const client = from === "from kp" ? "kp" : "cl";
    return { client, url: new URL(url), answers: new Set(seen) };
  });
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

/** Asks every row of a client at once; one set of answers for each. */
export function askRows(
  client: Namespace,
  rows: readonly GoldenRow[],
): Promise<ReadonlySet<string>[]> {
  const questions = rows.map(({ url, answers }): Question => ({
    protocol: url.protocol === "udp:" ? "udp" : "tcp",
    ip: url.hostname,
    port: url.port === "" ? 80 : Number(url.port),
    want: answers,
  }));
  return answers(client, questions);
}
