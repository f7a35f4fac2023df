/**
 * One listener for all Service addresses (SO_ORIGINAL_DST), with a real rule of
 * nftables that leads packets to it.
 */
import assert from "node:assert/strict";
import { ffi } from "../support/ffi.ts";
import { program, testWith } from "../support/needs.ts";
import { netns, Network } from "../support/netns.ts";

const PORT = 15_001;

const RULES = `table inet test {
  chain services {
    meta nfproto ipv4 ip daddr 10.96.0.0/16 tcp dport 80 redirect to :${PORT}
    meta nfproto ipv6 ip6 daddr fd00:96::/112 tcp dport 80 redirect to :${PORT}
  }
  chain prerouting {
    type nat hook prerouting priority -100; policy accept;
    jump services
  }
  chain output {
    type nat hook output priority -100; policy accept;
    jump services
  }
}`;

testWith(
  [netns, ffi, program("nft")],
  "splice tells redirected connections apart by their original destination",
  async () => {
    await using net = await Network.create();
    const { node, pods: [pod] } = net;
    assert.ok(pod !== undefined);
    await node.run(["nft", "-f", "-"], { stdin: RULES });
    // What the node itself sends is redirected only if it has a way out.
    for (const cidr of ["10.96.0.0/16", "fd00:96::/112"]) {
      await node.run(["ip", "route", "add", cidr, "dev", "cbr0"]);
    }
    const gone = "fd00:96::dead";
    const served = ["10.96.0.10", "10.96.0.11", "fd00:96::a", "fd00:96::b"];
    await using program = node.startDeno("test/support/redirected.ts", [
      String(PORT),
      ...served,
      gone,
    ]);
    await program.waitFor(/^ready$/m);
    for (const client of [pod, node]) {
      const unserved = ["10.96.0.99", gone];
      const replies = await client.dialAll(
        [...served, ...unserved].map((ip) => ({
          protocol: "tcp",
          ip,
          port: 80,
        })),
      );
      for (const [index, ip] of served.entries()) {
        assert.equal(replies[index], `serves ${ip}`, client.name);
      }
      // A reset, which may be there before `connect` is back.
      for (const reply of replies.slice(served.length)) {
        assert.match(reply, /^error: (ConnectionReset|NotConnected)$/);
      }
      // No way in for who knows the port.
      const [direct] = await client.dialAll([
        { protocol: "tcp", ip: node.ipv4, port: PORT },
      ]);
      assert.match(direct!, /^error: (ConnectionReset|NotConnected)$/);
    }
    await program.waitFor("no ServicePort has this address");
  },
);
