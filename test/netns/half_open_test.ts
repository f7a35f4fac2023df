/**
 * Peers that vanish without a word while a connection is open: nothing ever
 * comes from them again, not even an end. The kernel's keep-alive finds them,
 * after net.ipv4.tcp_keepalive_time (two hours where nobody changed it; one
 * second here).
 */
import assert from "node:assert/strict";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import { NodeCluster, serviceObjects } from "../support/node_cluster.ts";

const HELD = 4;

/** Nothing comes in or goes out any more. */
async function vanish(pod: Namespace): Promise<void> {
  await pod.run(["ip", "link", "set", "eth0", "down"]);
}

/**
 * Waits until each side has acknowledged all it was sent: what is under way
 * to a peer that vanished is sent again for a quarter of an hour, and for that
 * long the kernel does not ask whether it is alive.
 */
async function settle(node: Namespace): Promise<void> {
  await eventually(
    "nothing is under way",
    () => node.run(["ss", "-tniH", "state", "established"]),
    (sockets) => !/\b(unacked|notsent):/.test(sockets),
  );
}

testWith(
  [netns, program("curl"), program("ss")],
  "keep-alive finds endpoints and clients that vanished, and ends what they left open",
  async (t) => {
    await using cluster = await NodeCluster.start({ pods: 8 });
    const { node } = cluster;
    for (
      const [name, value] of [["time", 1], ["intvl", 1], ["probes", 2]] as const
    ) {
      await node.run([
        "sysctl",
        "-qw",
        `net.ipv4.tcp_keepalive_${name}=${value}`,
      ]);
    }
    for (const [index, engine] of ["splice", "portable"].entries()) {
      const [endpoint, leaving, vanishing, client] = [1, 2, 3, 4]
        .map((n) => cluster.pod(n + 4 * index));
      assert.ok(endpoint && leaving && vanishing && client);
      await t.step(engine, async () => {
        await cluster.proxy[Symbol.asyncDispose]();
        await cluster.startProxy(`--engine=${engine}`);
        await using one = await endpoint.endpoint(
          [`tcp/${endpoint.ipv4}/8080`],
        );
        await using other = await vanishing.endpoint(
          [`tcp/${vanishing.ipv4}/8080`],
        );
        await cluster.apply(
          ...serviceObjects("stays", { number: 10, endpoints: [endpoint] }),
          ...serviceObjects("leaves", { number: 11, endpoints: [vanishing] }),
        );
        for (const name of ["stays", "leaves"]) {
          await eventually("listens", () => open(node, name), isNone);
        }
        const hold = (from: Namespace, ip: string) =>
          from.startDeno(
            "test/support/holding_client.ts",
            [ip, "80", String(HELD)],
          );
        await using gone = hold(leaving, "10.96.0.10");
        await using left = hold(client, "10.96.0.11");
        await gone.waitFor("holding");
        await left.waitFor("holding");
        assert.equal(await open(node, "stays"), HELD);
        assert.equal(await open(node, "leaves"), HELD);
        await settle(node);
        await vanish(leaving);
        await vanish(vanishing);

        const [, ended = ""] = await left.waitFor(/ended: (.*)\n/);
        const how = engine === "splice" ? "reset" : "end";
        assert.equal(ended, Array(HELD).fill(how).join(" "));
        for (const name of ["stays", "leaves"]) {
          await eventually("it is found", () => open(node, name), isNone);
        }
        assert.ok(one.pid > 0 && other.pid > 0);
      });
    }
  },
);

function isNone(count: number): boolean {
  return count === 0;
}

/** Connections of a Service that the proxy has open; NaN: it has no series. */
async function open(node: Namespace, service: string): Promise<number> {
  const url = "http://127.0.0.1:10249/metrics";
  const line = (await node.run(["curl", "-sS", url])).split("\n").find((line) =>
    line.startsWith("kube_portal_connections_open{") &&
    line.includes(`service_name="${service}"`) && line.includes('"IPv4"')
  );
  return Number(line?.split(" ").at(-1) ?? "NaN");
}
