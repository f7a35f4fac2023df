/**
 * Who answered whom through a real kube-proxy 1.36 in nftables mode, asked again
 * of our program for the same objects, in a kernel.
 */
import assert from "node:assert/strict";
import { goldenInput, goldenText } from "../support/golden.ts";
import { type MatrixRow, matrixRows } from "../support/golden_matrix.ts";
import { askRows, goldenNetwork } from "../support/golden_network.ts";
import { program, testWith } from "../support/needs.ts";
import { netns } from "../support/netns.ts";
import { NftablesProgrammer } from "../../proxy/rules/modes/nftables/nftables_programmer.ts";

const SIGNAL = new AbortController().signal;

testWith(
  [netns, program("nft")],
  "[5.65, 5.68, 5.69, 5.71, 5.72, 5.73, 5.74, 10.39] nftables mode answers the node and another host as kube-proxy 1.36 does",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const network = await goldenNetwork(stack);
    const programmer = new NftablesProgrammer({
      family: "IPv4",
      runner: network.node.runner,
      now: () => 0,
    });
    await programmer.program(
      goldenInput("nftables", "IPv4"),
      { full: true, changed: new Set() },
      SIGNAL,
    );
    const rows = matrixRows(goldenText("matrix-1.36-nftables.txt"));
    await askRows(t, network, rows, assertSame);
  },
);

/** Chance may have shown one endpoint of two then; affinity, another one now. */
function assertSame(got: ReadonlySet<string>, { url, answers }: MatrixRow) {
  if (url.hostname === "10.96.20.20") {
    assert.equal(got.size, 1);
    const whom = ([...answers][0] ?? "").split(" saw ")[1];
    assert.match(
      [...got][0] ?? "",
      new RegExp(`^10\\.200\\.0\\.1[12] saw ${whom}$`),
    );
  } else assert.deepEqual([...got].sort(), [...answers].sort());
}
