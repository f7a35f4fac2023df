import assert from "node:assert/strict";
import { serviceState } from "../../proxy/desired_state.ts";
import { EndpointIps } from "../../proxy/endpoint_ips.ts";
import { service, slice } from "../support/objects.ts";

function state(name: string, endpoints: readonly string[]) {
  return serviceState(service(name), {
    slices: [slice(`${name}-1`, { endpoints })],
    node: { name: "n1", zone: "" },
  });
}

Deno.test("EndpointIps has an address as long as some Service has it", () => {
  const ips = new EndpointIps();
  ips.apply({
    changed: [
      state("default/a", ["10.1.0.1", "10.1.0.2"]),
      state("default/b", ["10.1.0.2"]),
    ],
    removed: [],
  });
  assert.deepEqual([...ips].sort(), ["10.1.0.1", "10.1.0.2"]);
  ips.apply({ changed: [state("default/a", ["10.1.0.3"])], removed: [] });
  assert.deepEqual([...ips].sort(), ["10.1.0.2", "10.1.0.3"]);
  ips.apply({ changed: [], removed: ["default/b", "default/unknown"] });
  assert.deepEqual([...ips], ["10.1.0.3"]);
  assert.ok(ips.has("10.1.0.3") && !ips.has("10.1.0.2"));
});
