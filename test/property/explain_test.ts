/** For any cluster, in every mode: an explanation is whole, and can be drawn. */
import assert from "node:assert/strict";
import fc from "fast-check";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import { explain, EXPLAINED_MODES } from "../../proxy/explain/mod.ts";
import { mermaid } from "../../proxy/explain/mermaid.ts";
import { ORIGINS } from "../../proxy/explain/packet.ts";
import { picture } from "../../proxy/explain/picture.ts";
import { DEFAULT_MODE_SETTINGS } from "../support/mode_settings.ts";
import {
  OWN_NODE,
  serviceKeys,
  services as servicesOf,
  sliceKeys,
  slices as slicesOf,
} from "../support/random_objects.ts";

const clusters = fc.record({
  services: fc.uniqueArray(serviceKeys, { maxLength: 3 })
    .chain((keys) => fc.tuple(...keys.map((key) => servicesOf(key)))),
  slices: fc.uniqueArray(sliceKeys, { maxLength: 4 })
    .chain((keys) => fc.tuple(...keys.map((key) => slicesOf(key)))),
});

Deno.test("explain: probabilities add up to one, and endpoints are a Service's", () => {
  fc.assert(
    fc.property(
      clusters,
      fc.constantFrom(...ORIGINS),
      ({ services, slices }, from) => {
        const state = buildDesiredState(services, {
          slices,
          node: { name: OWN_NODE, zone: "" },
        });
        // Services may want one address: then another's endpoint answers.
        const known = new Set(
          [...state.values()].flatMap(({ ports }) =>
            ports.flatMap(({ endpoints }) => endpoints.map(({ key }) => key))
          ),
        );
        for (const { key, ports } of state.values()) {
          const families = new Set(
            ports.map(({ servicePort }) => servicePort.family),
          );
          for (const family of families) {
            const explanations = explain({
              target: key,
              from,
              modes: EXPLAINED_MODES,
              family,
              state,
              slices,
              settings: DEFAULT_MODE_SETTINGS,
              nodeName: OWN_NODE,
              node: undefined,
              interfaceIps: ["127.0.0.1", "192.0.2.11", "::1", "fd00:2::11"],
              serviceCidrs: [],
            });
            for (const explanation of explanations) {
              const { branches } = explanation;
              const sum = branches.reduce((n, each) => n + each.probability, 0);
              assert.ok(Math.abs(sum - 1) < 1e-9, String(sum));
              for (const { outcome } of branches) {
                if (outcome.kind === "endpoint") {
                  assert.ok(known.has(outcome.endpoint), outcome.endpoint);
                }
              }
              assert.ok(picture(explanation).includes("└─►"));
              assert.match(mermaid(explanation), /^flowchart TD\n/);
            }
          }
        }
      },
    ),
    { numRuns: 200 },
  );
});
