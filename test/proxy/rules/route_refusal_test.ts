import assert from "node:assert/strict";
import { routeRefusal } from "../../../proxy/rules/route_refusal.ts";

const FACTS = {
  nodeAddresses: new Set(["127.0.0.1", "192.0.2.7", "::1", "fd00::7"]),
  gateways: new Set(["192.0.2.1", "fe80::1"]),
  apiServers: new Set(["198.51.100.1"]),
  podCidrs: ["10.244.0.0/24", "fd00:244::/64"],
  endpoints: new Set(["10.244.0.5", "203.0.113.5"]),
};

Deno.test("routeRefusal() lets pass what touches nothing known", () => {
  for (const cidr of ["10.96.0.0/12", "fd00:96::/112", "10.96.0.10/32"]) {
    assert.equal(routeRefusal(cidr, FACTS), undefined);
  }
});

Deno.test("routeRefusal() names what a local route would hide", () => {
  const table: readonly [string, string][] = [
    ["192.0.2.7/32", "it is the node's own address"],
    ["0.0.0.0/0", "it contains the node's own address 127.0.0.1"],
    ["192.0.2.0/30", "it contains the gateway 192.0.2.1"],
    ["fe80::1/128", "it is the gateway"],
    ["198.51.100.0/24", "it contains the API server's address 198.51.100.1"],
    ["203.0.113.0/24", "it contains the endpoint address 203.0.113.5"],
    ["203.0.113.5/32", "it is the endpoint address"],
    ["10.0.0.0/8", "it contains the endpoint address 10.244.0.5"],
    ["10.244.0.128/25", "it overlaps the pod CIDR 10.244.0.0/24"],
    ["10.244.0.9/32", "it overlaps the pod CIDR 10.244.0.0/24"],
    ["fd00::/16", "it contains the node's own address fd00::7"],
    ["fd00:244::/32", "it overlaps the pod CIDR fd00:244::/64"],
  ];
  for (const [cidr, why] of table) assert.equal(routeRefusal(cidr, FACTS), why);
});
