import assert from "node:assert/strict";
import fc from "fast-check";
import {
  AddressRange,
  canonicalAddress,
  familyOf,
  isCIDR,
} from "../../../watch/apiserver/addresses.ts";
import { humanDuration } from "../../../watch/apiserver/columns.ts";

Deno.test("AddressRange counts through a CIDR", () => {
  const table: [string, bigint, string, string][] = [
    ["10.96.0.0/16", 65534n, "10.96.0.1", "10.96.255.254"],
    ["10.96.3.7/30", 2n, "10.96.3.5", "10.96.3.6"],
    ["fd00:96::/112", 65535n, "fd00:96::1", "fd00:96::ffff"],
    ["::ffff:0:0/126", 3n, "::ffff:0:1", "::ffff:0:3"],
  ];
  for (const [cidr, count, first, last] of table) {
    const range = new AddressRange(cidr);
    assert.equal(range.count, count, cidr);
    assert.equal(range.at(0n), first);
    assert.equal(range.at(count - 1n), last);
  }
});

Deno.test("AddressRange contains what it counts, and nothing beside it", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.ipV4(), fc.ipV6()),
      fc.nat(30),
      fc.bigInt({ min: 0n, max: 1n << 20n }),
      (address, bits, seed) => {
        const range = new AddressRange(`${address}/${bits}`);
        const index = seed % range.count;
        const own = range.at(index);
        assert.ok(range.contains(own), own);
        assert.equal(canonicalAddress(own), own);
        assert.equal(familyOf(own), range.family);
        assert.ok(!range.contains(range.at(range.count)));
      },
    ),
  );
});

Deno.test("AddressRange refuses what is no CIDR, or has no room", () => {
  for (const cidr of ["10.0.0.0", "10.0.0.0/31", "10.0.0/8", "fd00::/127"]) {
    assert.throws(() => new AddressRange(cidr), RangeError, cidr);
  }
});

Deno.test("isCIDR() is strict about numbers", () => {
  const table: [string, boolean][] = [
    ["10.0.0.0/8", true],
    ["0.0.0.0/0", true],
    ["fd00::/128", true],
    ["10.0.0.0/33", false],
    ["10.0.0.0/08", false],
    ["010.0.0.0/8", false],
    ["10.0.0.0/", false],
    ["10.0.0.0/8/8", false],
    ["fe80::%lo/64", false],
  ];
  for (const [text, want] of table) assert.equal(isCIDR(text), want, text);
});

Deno.test("humanDuration() is as kubectl's", () => {
  const table: [number, string][] = [
    [0, "0s"],
    [119, "119s"],
    [120, "2m"],
    [125, "2m5s"],
    [600, "10m"],
    [3 * 3600, "3h"],
    [3 * 3600 + 60, "3h1m"],
    [9 * 3600 + 60, "9h"],
    [50 * 3600, "2d2h"],
    [9 * 86400, "9d"],
    [800 * 86400, "2y70d"],
    [9 * 365 * 86400, "9y"],
    [-5, "<invalid>"],
  ];
  for (const [seconds, want] of table) {
    assert.equal(humanDuration(seconds), want);
  }
});
