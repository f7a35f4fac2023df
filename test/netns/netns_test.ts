import assert from "node:assert/strict";
import { netns, Network } from "../support/netns.ts";
import { testWith } from "../support/needs.ts";

testWith(
  [netns],
  "Network connects pods, node and hosts, in both families",
  async () => {
    await using net = await Network.create({ hosts: ["outside"] });
    const [pod1, pod2] = net.pods;
    assert.ok(pod1 !== undefined && pod2 !== undefined);
    const outside = net.host("outside");
    await using _endpoint = await pod1.endpoint([
      `tcp/${pod1.ipv4}/8080`,
      `tcp/${pod1.ipv6}/8080`,
      `udp/${pod1.ipv4}/8080`,
      `udp/${pod1.ipv6}/8080`,
    ]);
    await using _nodeEndpoint = await net.node.endpoint([
      `tcp/${net.node.ipv4}/8080`,
      `udp/${net.node.ipv6}/8080`,
    ]);
    const port = 8080;
    const text = "hello";
    assert.match(
      await pod2.dial("tcp", pod1.ipv4, { port, text }),
      /^pod1 10\.244\.0\.3:\d+\nhello$/,
    );
    assert.match(
      await pod2.dial("udp", pod1.ipv6, { port, text }),
      /^pod1 \[fd00:244::3\]:\d+\nhello$/,
    );
    assert.match(
      await net.node.dial("tcp", pod1.ipv6, { port }),
      /^pod1 \[fd00:244::1\]:\d+\n$/,
    );
    assert.match(
      await outside.dial("tcp", net.node.ipv4, { port }),
      /^node 192\.0\.2\.12:\d+\n$/,
    );
    assert.match(
      await outside.dial("udp", net.node.ipv6, { port }),
      /^node \[fd00:2::12\]:\d+\n$/,
    );
    assert.equal(
      await pod2.dial("tcp", pod1.ipv4, { port: 8081 }),
      "error: ConnectionRefused",
    );
  },
);

testWith([netns], "Networks are strangers to each other", async () => {
  await using a = await Network.create({ pods: 1 });
  await using b = await Network.create({ pods: 1 });
  await a.node.run(["ip", "route", "add", "local", "10.1.0.0/16", "dev", "lo"]);
  const local = ["ip", "route", "show", "table", "local"] as const;
  assert.match(await a.node.run([...local]), /10\.1\.0\.0\/16/);
  assert.doesNotMatch(await b.node.run([...local]), /10\.1\.0\.0\/16/);
});
