import assert from "node:assert/strict";
import {
  NO_TABLE,
  parseExisting,
} from "../../../../proxy/rules/modes/nftables/listing.ts";
import { goldenText } from "../../../support/golden.ts";

const LISTED = goldenText("1.36-nftables.nft-ruleset.txt");

Deno.test("parseExisting() reads names of one table, and counts rules", () => {
  const table = parseExisting(LISTED, "ip kube-proxy");
  assert.equal(table.chains.get("services"), 3);
  assert.equal(table.chains.get("reject-chain"), 1);
  assert.equal(table.chains.get("service-H6U4RGLG-default/sticky/tcp/http"), 3);
  assert.equal(table.baseChains.size, 8);
  assert.ok(table.baseChains.has("nat-output"));
  assert.ok(table.maps.has("service-ips"));
  assert.ok(table.sets.has("nodeport-ips"));
  assert.ok(
    table.sets.has(
      "affinity-25CLADEV-default/sticky/tcp/http__10.200.0.11/8080",
    ),
  );
});

Deno.test("parseExisting() keeps tables apart", () => {
  const table = parseExisting(LISTED, "ip6 kube-proxy");
  assert.equal(table.chains.get("services"), 2);
  assert.ok(!table.sets.has("nodeport-ips"));
  assert.deepEqual(parseExisting(LISTED, "ip kube-portal"), NO_TABLE);
  assert.deepEqual(parseExisting("", "ip kube-proxy"), NO_TABLE);
});
