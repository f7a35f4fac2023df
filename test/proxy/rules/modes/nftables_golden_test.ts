/**
 * The compiled program against what a real kube-proxy 1.36 loaded for the same
 * objects: as text, and as the kernel lists it.
 */
import assert from "node:assert/strict";
import type { IpFamily } from "../../../../proxy/ip.ts";
import { compileNftables } from "../../../../proxy/rules/modes/nftables/compile.ts";
import { tableText } from "../../../../proxy/rules/modes/nftables/text.ts";
import { runKubePortal } from "../../../support/kube_portal.ts";
import { goldenInput, goldenText } from "../../../support/golden.ts";
import { program, testWith } from "../../../support/needs.ts";
import { netns, Network } from "../../../support/netns.ts";
import { nftListing } from "../../../support/nft_listing.ts";
import { temporaryFolder } from "../../../support/temporary_folder.ts";

const FAMILIES: readonly ["ip" | "ip6", IpFamily][] = [
  ["ip", "IPv4"],
  ["ip6", "IPv6"],
];

function rendered(family: IpFamily): string {
  return tableText(compileNftables(goldenInput("nftables", family)));
}

for (const [table, family] of FAMILIES) {
  Deno.test(`[10.35, 10.36, 10.37, 10.38, 10.39] compileNftables() makes of the golden cluster what kube-proxy 1.36 makes (${table})`, () => {
    assert.deepEqual(
      nftListing(rendered(family), table),
      nftListing(goldenText("1.36-nftables.nft-ruleset.txt"), table),
    );
  });
}

testWith(
  [netns, program("nft")],
  "render prints tables that load as they are, twice, and list as kube-proxy's do",
  async () => {
    await using net = await Network.create({ pods: 0 });
    await using folder = await temporaryFolder();
    for (const name of ["services", "endpointslices", "nodes"]) {
      await folder.write(`${name}.json`, goldenText(`input-${name}.json`));
    }
    for (const [table] of FAMILIES) {
      const { stdout, stderr } = await runKubePortal([
        "render",
        "--proxy-mode=nftables",
        `--ip-family=${table === "ip" ? "ipv4" : "ipv6"}`,
        "--cluster-cidr=10.244.0.0/16",
        "--service-cidr=10.96.0.0/16",
        "--hostname-override=kp",
        `--manifests=${folder.path}`,
      ]);
      assert.equal(stderr, "");
      for (let times = 0; times < 2; times++) {
        await net.node.run(["nft", "-f", "-"], { stdin: stdout });
      }
    }
    const listed = await net.node.run(["nft", "list", "ruleset"]);
    for (const [table] of FAMILIES) {
      assert.deepEqual(
        nftListing(listed, table),
        nftListing(goldenText("1.36-nftables.nft-ruleset.txt"), table),
      );
    }
  },
);
