import assert from "node:assert/strict";
import {
  addressSettings,
  nodeNameOf,
} from "../../../proxy/commands/config_meaning.ts";
import { defaultConfiguration } from "../../../proxy/config/mod.ts";

const DEFAULTS = defaultConfiguration();

Deno.test("[8.69] nodeNameOf() trims, and writes small", () => {
  assert.equal(
    nodeNameOf({ ...DEFAULTS, hostnameOverride: " Node-1 " }),
    "node-1",
  );
  assert.equal(
    nodeNameOf(DEFAULTS),
    Deno.hostname().trim().toLowerCase(),
  );
  assert.throws(
    () => nodeNameOf({ ...DEFAULTS, hostnameOverride: " " }),
    /empty hostname is invalid/,
  );
});

Deno.test("[8.35, 8.37] addressSettings() takes clusterCIDR only in its mode", () => {
  const given = { ...DEFAULTS, clusterCIDR: "10.244.1.0/16,fd00::1/64" };
  assert.deepEqual(addressSettings(given), {
    nodePorts: { cidrs: [], primary: false },
    clusterCidrs: ["10.244.0.0/16", "fd00::/64"],
    localhostNodePorts: true,
    bindAddress: "0.0.0.0",
  });
  const other = { ...given, detectLocalMode: "NodeCIDR" };
  assert.deepEqual(addressSettings(other).clusterCidrs, []);
});
