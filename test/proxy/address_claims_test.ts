/** Who has an address: by table, and whatever the order of events. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { AddressClaims, type Claimant } from "../../proxy/address_claims.ts";
import { addressKey } from "../../proxy/listen_addresses.ts";
import type { AddressKind, ServiceAddress } from "../../proxy/steering.ts";

function claimant(text: string, created = "2026-01-01T00:00:00Z"): Claimant {
  const [namespace = "", name = ""] = text.split("/");
  return { key: `${text}/TCP/IPv4`, text, namespace, name, created };
}

function address(
  ip: string,
  kind: AddressKind = "ExternalIP",
): ServiceAddress {
  return { kind, ip, port: 80, protocol: "TCP", name: "" };
}

const IP = "198.51.100.1";
const KEY = addressKey(address(IP));

function order(claims: AddressClaims): string[] {
  return claims.claimants(KEY).map(({ text }) => text);
}

Deno.test("[6.26] AddressClaims gives an address to the oldest, then the first by namespace and name", () => {
  const claims = new AddressClaims();
  const ages: readonly Claimant[] = [
    claimant("default/b"),
    claimant("default/a"),
    claimant("a/z"),
    claimant("default/young", "2026-02-01T00:00:00Z"),
    claimant("default/old", "2025-12-31T23:59:59Z"),
    claimant("default/ageless", ""),
  ];
  for (const each of ages) claims.set(each, [address(IP)]);
  assert.deepEqual(order(claims), [
    "default/old",
    "a/z",
    "default/a",
    "default/b",
    "default/young",
    "default/ageless",
  ]);
});

Deno.test("AddressClaims keeps what the API server allotted from what somebody typed", () => {
  const claims = new AddressClaims();
  claims.set(claimant("evil/old", "2020-01-01T00:00:00Z"), [address(IP)]);
  for (const kind of ["ClusterIP", "NodePort"] as const) {
    claims.set(claimant("default/victim"), [address(IP, kind)]);
    assert.deepEqual(order(claims), ["default/victim", "evil/old"]);
  }
});

Deno.test("AddressClaims says what changed, and nothing where nothing did", () => {
  const claims = new AddressClaims();
  const [old, young] = [claimant("default/a"), claimant("default/b")];
  assert.deepEqual(claims.set(young, [address(IP)]), [KEY]);
  assert.deepEqual(claims.set(young, [address(IP)]), []);
  assert.deepEqual(claims.set(old, [address(IP)]), [KEY]);
  assert.deepEqual(order(claims), ["default/a", "default/b"]);
  assert.deepEqual(claims.set(old, []), [KEY]);
  assert.deepEqual(order(claims), ["default/b"]);
  assert.deepEqual(claims.set(old, []), []);
  claims.set(young, []);
  assert.equal(claims.size, 0);
});

Deno.test("AddressClaims sees that a Service of the same name is another one", () => {
  const claims = new AddressClaims();
  claims.set(claimant("default/a"), [address(IP)]);
  claims.set(claimant("default/b"), [address(IP)]);
  claims.set(claimant("default/a", "2026-03-01T00:00:00Z"), [address(IP)]);
  assert.deepEqual(order(claims), ["default/b", "default/a"]);
});

Deno.test("AddressClaims depends on the claims that are left, not on the order of events", () => {
  const ips = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
  const kinds: AddressKind[] = ["ClusterIP", "NodePort", "ExternalIP"];
  const events = fc.array(
    fc.record({
      text: fc.constantFrom("a/a", "a/b", "b/a", "b/b"),
      created: fc.constantFrom(
        "2026-01-01T00:00:00Z",
        "2026-01-02T00:00:00Z",
        "",
      ),
      addresses: fc.uniqueArray(
        fc.record({
          ip: fc.constantFrom(...ips),
          kind: fc.constantFrom(...kinds),
        }),
        { selector: ({ ip }) => ip },
      ),
    }),
  );
  const shown = (claims: AddressClaims) =>
    ips.map((ip) => claims.claimants(addressKey(address(ip))));
  fc.assert(
    fc.property(events, fc.infiniteStream(fc.nat()), (history, dice) => {
      const claims = new AddressClaims();
      const left = new Map<string, (typeof history)[number]>();
      const set = (to: AddressClaims, event: (typeof history)[number]) => {
        const addresses = event.addresses.map(({ ip, kind }) =>
          address(ip, kind)
        );
        return to.set(claimant(event.text, event.created), addresses);
      };
      for (const event of history) {
        const before = shown(claims);
        const touched = new Set(set(claims, event));
        left.set(event.text, event);
        // What it does not name is as it was.
        shown(claims).forEach((after, i) => {
          if (!touched.has(addressKey(address(ips[i] ?? "")))) {
            assert.deepEqual(after, before[i]);
          }
        });
      }
      const another = new AddressClaims();
      const shuffled = [...left.values()].map((event) => ({
        event,
        at: dice.next().value,
      })).sort((a, b) => a.at - b.at);
      for (const { event } of shuffled) set(another, event);
      assert.deepEqual(shown(claims), shown(another));
    }),
  );
});
