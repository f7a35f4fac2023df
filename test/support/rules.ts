/**
 * Redirections and forms of rules, whatever they are, for property tests.
 *
 * @module
 */
import fc from "fast-check";
import { canonicalIp } from "../../proxy/ip.ts";
import type { IptablesForm } from "../../proxy/rules/iptables_rules.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
} from "../../proxy/rules/redirection.ts";

/** Any redirection, with a name as the API server allows them. */
export function arbitraryRedirection(): fc.Arbitrary<Redirection> {
  const label = fc.stringMatching(/^[a-z]([a-z0-9-]{0,20}[a-z0-9])?$/);
  const port = fc.integer({ min: 1, max: 65_535 });
  return fc.record({
    ip: fc.oneof(fc.ipV4(), fc.ipV6()).map((text) => canonicalIp(text) ?? text),
    port,
    protocol: fc.constantFrom("TCP", "UDP"),
    isNodePort: fc.boolean(),
    name: fc.tuple(label, label, label).map(([namespace, service, name]) =>
      `${namespace}/${service}:${name}`
    ),
    proxyPort: port,
  });
}

/** Any form in which rules can be written. */
export function arbitraryForm(): fc.Arbitrary<IptablesForm> {
  return fc.record({
    family: fc.constantFrom("IPv4", "IPv6"),
    comments: fc.boolean(),
    addrtype: fc.boolean(),
    guard: fc.constantFrom("raw", "mangle", "filter", "none"),
    hasTarget: fc.boolean(),
  }).map(({ hasTarget, ...form }) =>
    hasTarget ? { ...form, target: REDIRECT_TARGETS[form.family] } : form
  );
}
