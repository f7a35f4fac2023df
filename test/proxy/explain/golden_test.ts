/**
 * What explain says of the recorded cluster, held against what a real
 * kube-proxy 1.36 did there: who answered the node and another host, and whom
 * the endpoints saw.
 */
import assert from "node:assert/strict";
import {
  explain,
  type ExplainedMode,
  type Explanation,
} from "../../../proxy/explain/mod.ts";
import { goldenFacts, goldenText } from "../../support/golden.ts";
import { matrixRows } from "../../support/golden_matrix.ts";

/** The node reaches everything from its own address; the host is outside. */
const CLIENTS = { kp: "node", cl: "10.201.0.50" } as const;

function explained(
  target: string,
  { from, mode }: { from: string; mode: ExplainedMode },
): Explanation {
  const [explanation] = explain({
    ...goldenFacts("IPv4"),
    target,
    from,
    modes: [mode],
  });
  assert.ok(explanation !== undefined);
  return explanation;
}

for (const mode of ["iptables", "nftables"] as const) {
  const rows = matrixRows(goldenText(`matrix-1.36-${mode}.txt`))
    // What no Service has is no target.
    .filter(({ url }) => url.port !== "9");
  for (const row of rows) {
    const { client, url } = row;
    Deno.test(`explain says what kube-proxy did: ${mode}, from ${client} to ${url}`, () => {
      const protocol = url.protocol === "udp:" ? "UDP" : "TCP";
      const target = `${url.hostname}:${url.port || 80}/${protocol}`;
      const { branches } = explained(target, { from: CLIENTS[client], mode });
      const kinds = new Set(branches.map(({ outcome }) => outcome.kind));
      if (row.isRefused) {
        // A NodePort on loopback, where nobody listens.
        const isNode = kinds.has("node") && url.hostname === "127.0.0.1";
        assert.ok(isNode || kinds.has("refused"), [...kinds].join());
        return;
      }
      if (row.isTimeout) return assert.deepEqual([...kinds], ["dropped"]);
      assert.deepEqual([...kinds], ["endpoint"]);
      const predicted = branches.map(({ packet }) => packet.destination);
      // Chance may have left one out of six; it adds none.
      for (const ip of row.endpoints) assert.ok(predicted.includes(ip), ip);
      assert.deepEqual(
        [...new Set(branches.map(({ packet }) => packet.source))],
        row.saw,
      );
    });
  }
}

Deno.test("explain names the chains that the article walks through", () => {
  const { branches } = explained(
    "default/services-prod-6059-oms-api:http-0",
    { from: "pod", mode: "iptables" },
  );
  const chains = branches.map(({ hops }) => hops.map(({ chain }) => chain));
  assert.ok(
    chains.every((each) => each.includes("KUBE-SVC-KLU3DS3WRPTYAOLU")),
  );
  assert.equal(
    new Set(
      chains.map((each) => each.find((name) => name.startsWith("KUBE-SEP-"))),
    ).size,
    2,
  );
});

Deno.test("explain shows three virtual servers for addon-nexus", () => {
  const explanations = explain({
    ...goldenFacts("IPv4"),
    target: "default/addon-nexus",
    from: "node",
    modes: ["ipvs"],
  });
  assert.deepEqual(
    explanations.map(({ branches }) =>
      branches.map(({ hops, outcome, packet }) => {
        const server = hops.find(({ table }) => table === "ipvs");
        assert.equal(outcome.kind, "endpoint");
        return `${server?.chain} ${packet.destination} ${packet.source}`;
      })
    ),
    // The node's packets have the ClusterIP as their source: masqueraded.
    [8081, 5000, 5500].map((port) => [
      `10.96.20.10:${port} 10.200.0.11 10.200.0.2`,
      `10.96.20.10:${port} 10.200.0.12 10.200.0.2`,
    ]),
  );
});
