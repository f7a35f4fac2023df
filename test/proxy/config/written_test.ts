import assert from "node:assert/strict";
import { parse } from "@std/yaml";
import {
  configurationYaml,
  configz,
  defaultConfiguration,
  parseConfiguration,
} from "../../../proxy/config/mod.ts";

/** What a kube-proxy 1.36 answered on /configz. */
const GOLDEN = JSON.parse(Deno.readTextFileSync(
  new URL("../../fixture/golden/1.36-iptables.configz.json", import.meta.url),
)) as { readonly "kubeproxy.config.k8s.io": Record<string, unknown> };

Deno.test("[8.44] configz() answers field for field, and in the order, of a recorded kube-proxy 1.36", () => {
  const golden = GOLDEN["kubeproxy.config.k8s.io"];
  const { config, lenient, problems } = parseConfiguration(
    JSON.stringify(golden),
  );
  assert.deepEqual([lenient, problems], [[], []]);
  assert.equal(JSON.stringify(configz(config)), JSON.stringify(GOLDEN));
});

Deno.test("[8.92] configurationYaml() writes every default, and reads as what it was made of", () => {
  const yaml = configurationYaml(defaultConfiguration());
  assert.deepEqual(parseConfiguration(yaml).config, defaultConfiguration());
  const written = parse(yaml) as Record<string, unknown>;
  assert.equal(written.kind, "KubeProxyConfiguration");
  assert.equal(written.configSyncPeriod, "15m0s");
  assert.equal(written.nodePortAddresses, null);
  assert.equal(written.oomScoreAdj, -999);
  // Of the three that golden recordings never have.
  assert.ok(!("featureGates" in written));
  assert.ok(!("udpIdleTimeout" in written));
  assert.ok(!("windowsRunAsService" in written));
});
