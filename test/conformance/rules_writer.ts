/**
 * What every `RulesWriter` promises, tried in a node's network namespace with
 * the real program: what it writes, what it reads back, where packets then go,
 * and that nothing of it is left, and nothing of others gone.
 *
 * @module
 */
import assert from "node:assert/strict";
import type { CommandRunner } from "../../proxy/rules/command.ts";
import { formatHostPort, type IpFamily } from "../../proxy/ip.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
  redirectionKey,
} from "../../proxy/rules/redirection.ts";
import type { RulesWriter } from "../../proxy/rules/rules_writer.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { type Need, testWith } from "../support/needs.ts";

export interface RulesWriterSuite {
  /** Before the name of every test. */
  readonly name: string;
  readonly needs: readonly Need[];
  newWriter(family: IpFamily, runner: CommandRunner): RulesWriter;
  /** Rules of others, loaded before ours: what is there decides which program. */
  foreignRules(node: Namespace): Promise<void>;
  /** Every rule of the node, without counters. */
  dump(node: Namespace): Promise<string>;
  /** What an impatient administrator does to all rules. */
  flush(node: Namespace): Promise<void>;
  /** What `description` says once it was probed. */
  readonly description: RegExp;
}

const { signal } = new AbortController();
/** No answer is what is wanted. */
const timeoutMs = 1_000;
const FAMILIES = ["IPv4", "IPv6"] as const;
const CLUSTER_IPS = { IPv4: "10.96.0.10", IPv6: "fd00:96::a" } as const;
const LOOPBACK_MASKS = { IPv4: 32, IPv6: 128 } as const;

function redirection(
  family: IpFamily,
  more: Partial<Redirection> = {},
): Redirection {
  return {
    ip: CLUSTER_IPS[family],
    port: 80,
    protocol: "TCP",
    isNodePort: false,
    name: "default/web:http",
    proxyPort: 20_001,
    ...more,
  };
}

function byKey(of: readonly Redirection[]): Map<string, Redirection> {
  return new Map(of.map((each) => [redirectionKey(each), each]));
}

/** Registers the tests. */
export function testRulesWriter(suite: RulesWriterSuite): void {
  const { name, dump } = suite;
  const needs = [netns, ...suite.needs];

  const started = async (
    node: Namespace,
    family: IpFamily,
    target: string | undefined = REDIRECT_TARGETS[family],
  ) => {
    const writer = suite.newWriter(family, node.runner);
    assert.deepEqual(await writer.probe(signal), { canChooseAddress: true });
    await writer.use(target, signal);
    return writer;
  };

  for (const family of FAMILIES) {
    testWith(
      needs,
      `${name} ${family}: what it writes is read back, changed, put back and removed`,
      async (t) => {
        await using net = await Network.create({ pods: 0 });
        const { node } = net;
        await suite.foreignRules(node);
        const before = await dump(node);
        const web = redirection(family);
        const dns = redirection(family, {
          port: 53,
          protocol: "UDP",
          name: "kube-system/kube-dns:dns",
          proxyPort: 20_002,
        });
        const nodePort = redirection(family, {
          ip: node[family === "IPv4" ? "ipv4" : "ipv6"],
          port: 30_080,
          isNodePort: true,
        });
        let writer = await started(node, family);
        const installed = async () => (await writer.read(signal)).redirections;
        const apply = async (
          add: readonly Redirection[],
          remove: readonly Redirection[] = [],
        ) => {
          const result = await writer.apply({ add, remove }, signal);
          assert.deepEqual(result.refused, new Map());
          return result.written;
        };

        await t.step("a probe leaves nothing", async () => {
          assert.match(writer.description, suite.description);
          assert.equal(await dump(node), before);
          assert.deepEqual(await installed(), new Map());
          await apply([]);
          assert.equal(await dump(node), before);
        });

        await t.step("it writes", async () => {
          assert.ok(await apply([web, dns, nodePort]) >= 3);
          assert.notEqual(await dump(node), before);
          assert.match(await dump(node), /kube-system\/kube-dns:dns/);
          assert.deepEqual(await installed(), byKey([web, dns, nodePort]));
        });

        await t.step("another adopts it, and writes nothing", async () => {
          const written = await dump(node);
          writer = await started(node, family);
          const read = await writer.read(signal);
          assert.deepEqual(read.redirections, byKey([web, dns, nodePort]));
          assert.deepEqual(
            read.ports,
            new Map([
              [redirectionKey(web), 20_001],
              [redirectionKey(dns), 20_002],
              [redirectionKey(nodePort), 20_001],
            ]),
          );
          assert.equal(await apply([]), 0);
          assert.equal(await apply([web]), 0);
          assert.equal(await dump(node), written);
        });

        await t.step("a change is what it costs", async () => {
          const moved = { ...web, proxyPort: 20_009 };
          assert.ok(await apply([moved], [web]) <= 2);
          assert.ok(await apply([], [dns]) === 1);
          assert.deepEqual(await installed(), byKey([moved, nodePort]));
          assert.ok(await apply([web, dns], [moved]) <= 3);
          assert.deepEqual(await installed(), byKey([web, dns, nodePort]));
        });

        await t.step("it puts back what was flushed", async () => {
          const written = await dump(node);
          await suite.flush(node);
          await suite.foreignRules(node);
          assert.deepEqual(await installed(), new Map());
          assert.ok(await apply([web, dns, nodePort]) >= 3);
          assert.equal(await dump(node), written);
          assert.equal(await apply([]), 0);
        });

        await t.step("it finds out by itself that it was flushed", async () => {
          const written = await dump(node);
          await suite.flush(node);
          await suite.foreignRules(node);
          await apply([web, nodePort], [dns]);
          await apply([dns]);
          await installed();
          await apply([web, dns, nodePort]);
          assert.equal(await dump(node), written);
        });

        await t.step("cleanup removes it, twice", async () => {
          await writer.cleanup(signal);
          assert.equal(await dump(node), before);
          await writer.cleanup(signal);
          await suite.newWriter(family, node.runner).cleanup(signal);
          assert.equal(await dump(node), before);
        });
      },
    );

    testWith(
      needs,
      `${name} ${family}: packets for Service addresses are led, no others`,
      async (t) => {
        await using net = await Network.create({ hosts: ["outside"] });
        const { node, pods: [pod] } = net;
        assert.ok(pod !== undefined);
        const outside = net.host("outside");
        await suite.foreignRules(node);
        const ip = CLUSTER_IPS[family];
        const nodeIp = node[family === "IPv4" ? "ipv4" : "ipv6"];
        const target = REDIRECT_TARGETS[family];
        const clusterIp = (port: number, protocol: "TCP" | "UDP") =>
          redirection(family, { port, protocol });
        const nodePort = (protocol: "TCP" | "UDP") =>
          redirection(family, {
            ip: nodeIp,
            port: 30_080,
            protocol,
            isNodePort: true,
          });
        const add = [
          clusterIp(80, "TCP"),
          clusterIp(53, "UDP"),
          nodePort("TCP"),
          nodePort("UDP"),
        ];

        await t.step("to an address of ours on lo", async () => {
          const writer = await started(node, family);
          await writer.read(signal);
          const address = `${target}/${LOOPBACK_MASKS[family]}`;
          await node.run(["ip", "addr", "add", address, "dev", "lo"]);
          await using _proxy = await node.endpoint(
            [`tcp/${target}/20001`, `udp/${target}/20001`],
            "proxy",
          );
          // On the same port of the node's own address: none of our business.
          await using _other = await node.endpoint(
            [`tcp/${nodeIp}/20001`],
            "other",
          );
          await writer.apply({ add, remove: [] }, signal);
          const clients = [pod, node, outside];
          await outside.run(
            ["ip", "route", "add", ip, "via", nodeIp],
          );
          const answers = await Promise.all(
            clients.flatMap((client) => [
              client.dial("tcp", ip, { port: 80, text: "hello" }),
              client.dial("udp", ip, { port: 53, text: "hello" }),
              client.dial("tcp", nodeIp, { port: 30_080, text: "hello" }),
              client.dial("udp", nodeIp, { port: 30_080, text: "hello" }),
            ]),
          );
          for (const [index, answer] of answers.entries()) {
            const client = clients[index >> 2];
            assert.match(
              answer,
              /^proxy \S+\nhello$/,
              `${client?.name} ${index & 3}`,
            );
          }
          const [v4, v6] = [pod.ipv4, pod.ipv6];
          assert.ok(
            answers[0]?.includes(
              formatHostPort(family === "IPv4" ? v4 : v6, 1)
                .slice(0, -1),
            ),
            "the proxy sees the pod's own address",
          );
          assert.match(
            await outside.dial("tcp", nodeIp, { port: 20_001 }),
            /^other /,
          );
        });

        await t.step("and nobody else's come there", async () => {
          await outside.run(["ip", "route", "add", target, "via", nodeIp]);
          const direct = await Promise.all([
            outside.dial("tcp", target, {
              port: 20_001,
              text: "hello",
              timeoutMs,
            }),
            outside.dial("udp", target, {
              port: 20_001,
              text: "hello",
              timeoutMs,
            }),
            pod.dial("tcp", target, { port: 20_001, text: "hello", timeoutMs }),
          ]);
          assert.deepEqual(
            direct,
            Array(3).fill("error: Timeout"),
          );
        });

        await t.step("to whatever address they came in by", async () => {
          const writer = suite.newWriter(family, node.runner);
          await writer.probe(signal);
          await writer.use(undefined, signal);
          const { ports } = await writer.read(signal);
          assert.equal(ports.get(redirectionKey(clusterIp(80, "TCP"))), 20_001);
          await using _proxy = await node.endpoint(
            [family === "IPv4" ? "tcp/0.0.0.0/20001" : "tcp/::/20001"],
            "wildcard",
          );
          await writer.apply({ add, remove: [] }, signal);
          const answers = await Promise.all(
            [pod, node, outside].flatMap((client) => [
              client.dial("tcp", ip, { port: 80 }),
              client.dial("tcp", nodeIp, { port: 30_080 }),
            ]),
          );
          for (const answer of answers) assert.match(answer, /^wildcard /);
          assert.equal(
            await outside.dial("tcp", nodeIp, { port: 20_001, timeoutMs }),
            "error: Timeout",
          );
          const before = (await writer.read(signal)).redirections;
          const [first, ...rest] = add;
          assert.ok(first !== undefined);
          await writer.apply({ add: [], remove: rest }, signal);
          assert.deepEqual(
            (await writer.read(signal)).redirections,
            byKey([first]),
          );
          await writer.apply({ add: rest, remove: [] }, signal);
          assert.deepEqual((await writer.read(signal)).redirections, before);
          await writer.cleanup(signal);
        });
      },
    );
  }

  testWith(
    needs,
    `${name}: without the privilege it says so, and changes nothing`,
    async () => {
      await using net = await Network.create({ pods: 0 });
      const { node } = net;
      await suite.foreignRules(node);
      const before = await dump(node);
      const writer = suite.newWriter("IPv4", {
        run: (command, options) =>
          node.runner.run(
            [
              "setpriv",
              "--bounding-set=-net_admin",
              "--inh-caps=-net_admin",
              ...command,
            ],
            options,
          ),
      });
      await assert.rejects(writer.probe(signal), {
        name: "SteeringError",
        message: /needs CAP_NET_ADMIN.* \(run as root\)$/,
      });
      assert.equal(await dump(node), before);
    },
  );
}
