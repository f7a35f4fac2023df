import assert from "node:assert/strict";
import fc from "fast-check";
import {
  configurationYaml,
  parseConfiguration,
} from "../../proxy/config/mod.ts";
import { FIELDS } from "../../proxy/config/configuration.ts";
import {
  type Field,
  isField,
  type Section,
} from "../../proxy/config/fields.ts";

/** A value that a field can have; zero only where it does not mean the default. */
function value(field: Field): fc.Arbitrary<unknown> {
  switch (field.kind) {
    case "text":
      return fc.string({ minLength: 1 });
    case "boolean":
      return field.keepsZero ? fc.boolean() : fc.constant(true);
    case "integer":
      return fc.integer({ min: field.keepsZero ? -1_000 : 1, max: 0x7fffffff });
    case "number":
      return fc.double({ min: 0.001, max: 1e6, noNaN: true });
    case "duration":
      // Whole microseconds: milliseconds in binary are exact enough for them.
      return fc.integer({ min: field.keepsZero ? 0 : 1, max: 1e9 })
        .map((microseconds) => microseconds / 1_000);
    case "texts":
      return fc.array(fc.string(), { minLength: 1, maxLength: 3 });
    case "switches":
      return fc.dictionary(
        fc.stringMatching(/^[A-Z][A-Za-z]{0,9}$/),
        fc.boolean(),
        { minKeys: 1, maxKeys: 3, noNullPrototype: true },
      );
    case "anything":
      return fc.constant(field.default);
  }
}

function values(section: Section): fc.Arbitrary<Record<string, unknown>> {
  const entries = Object.entries(section).map((
    [name, entry],
  ): [string, fc.Arbitrary<unknown>] => [
    name,
    isField(entry) ? value(entry) : values(entry),
  ]);
  return fc.record(Object.fromEntries(entries), { noNullPrototype: true });
}

// Of modes that do not run here they are written as nothing.
const { ipvs: _ipvs, nftables: _nftables, ...OWN } = FIELDS;

Deno.test("property: what configurationYaml() writes, parseConfiguration() reads", () => {
  const defaults = parseConfiguration(
    "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n",
  ).config;
  fc.assert(fc.property(values(OWN), (own) => {
    // An address alone is completed by reading.
    const config = {
      ...defaults,
      ...own,
      healthzBindAddress: "192.0.2.1:1",
      metricsBindAddress: "[2001:db8::1]:2",
    } as typeof defaults;
    const parsed = parseConfiguration(configurationYaml(config));
    assert.deepEqual(parsed.problems, []);
    assert.deepEqual(parsed.lenient, []);
    assert.deepEqual(parsed.config, config);
  }));
});
