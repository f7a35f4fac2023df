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

const IP = "10.96.0.10";
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
    await using cluster = await NodeCluster.start({ pods: 5 });
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
    const open = async () => {
      const url = "http://127.0.0.1:10249/metrics";
      const text = await node.run(["curl", "-sS", url]);
      const line = text.split("\n").find((line) =>
        line.startsWith("kube_portal_connections_open{") &&
        line.includes('service_name="web"') && line.includes('"IPv4"')
      );
      return Number(line?.split(" ").at(-1) ?? "NaN");
    };
    for (const [index, engine] of ["splice", "portable"].entries()) {
      const [endpoint, client, steady] = [1 + 2 * index, 2 + 2 * index, 5]
        .map((n) => cluster.pod(n));
      assert.ok(endpoint && client && steady);
      await t.step(engine, async () => {
        await cluster.proxy[Symbol.asyncDispose]();
        await cluster.startProxy(`--engine=${engine}`);
        await using server = await endpoint.endpoint(
          [`tcp/${endpoint.ipv4}/8080`],
        );
        await cluster.apply(...serviceObjects("web", {
          number: 10,
          endpoints: [endpoint],
        }));
        const held = [IP, "80", String(HELD)];
        const start = (from: Namespace) =>
          from.startDeno("test/support/holding_client.ts", held);
        await eventually("listens", open, (count) => count === 0);
        await using leaving = start(client);
        await leaving.waitFor("holding");
        assert.equal(await open(), HELD);
        await settle(node);
        await vanish(client);
        await eventually("the client is found", open, (count) => count === 0);

        await using staying = start(steady);
        await staying.waitFor("holding");
        await settle(node);
        await vanish(endpoint);
        const [, ended = ""] = await staying.waitFor(/ended: (.*)\n/);
        const how = engine === "splice" ? "reset" : "end";
        assert.equal(ended, Array(HELD).fill(how).join(" "));
        await eventually("the endpoint is found", open, (n) => n === 0);
        assert.ok(server.pid > 0);
      });
    }
  },
);
