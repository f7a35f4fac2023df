import assert from "node:assert/strict";
import {
  configurationChange,
  defaultConfiguration,
  fieldAt,
  fieldsWithoutMeaning,
  parseConfiguration,
  withAppliedChanges,
} from "../../../proxy/config/mod.ts";

const HEAD =
  "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";

function config(lines: string) {
  return parseConfiguration(HEAD + lines).config;
}

Deno.test("fieldsWithoutMeaning() names what somebody asked for and will not get", () => {
  assert.deepEqual(fieldsWithoutMeaning(defaultConfiguration()), []);
  assert.deepEqual(
    fieldsWithoutMeaning(config(`
featureGates: { A: true }
clientConnection: { kubeconfig: /x, qps: 100 }
logging: { verbosity: 4 }
iptables: { masqueradeAll: true, syncPeriod: 10s, masqueradeBit: 14 }
ipvs: { scheduler: lc }
clusterCIDR: 10.0.0.0/8
oomScoreAdj: 0
conntrack: { maxPerCore: 0, min: 1 }
`)),
    [
      "featureGates",
      "clientConnection.qps",
      "iptables.masqueradeAll",
      "ipvs.scheduler",
      "conntrack.min",
    ],
  );
});

Deno.test("configurationChange() tells what can change while the proxy runs from what cannot", () => {
  const before = config("clusterCIDR: 10.0.0.0/8\n");
  const after = config(`
clusterCIDR: 10.1.0.0/16
nodePortAddresses: [192.0.2.0/24]
logging: { verbosity: 4, flushFrequency: 1s }
healthzBindAddress: 127.0.0.1:1
clientConnection: { kubeconfig: /other, qps: 50 }
conntrack: { min: 3 }
`);
  assert.deepEqual(configurationChange(before, after), {
    applied: ["logging.verbosity", "clusterCIDR", "nodePortAddresses"],
    pending: ["clientConnection.kubeconfig", "healthzBindAddress"],
  });
  const now = withAppliedChanges(before, after);
  assert.deepEqual(configurationChange(now, after), {
    applied: [],
    pending: ["clientConnection.kubeconfig", "healthzBindAddress"],
  });
  assert.equal(now.logging.verbosity, 4);
});

Deno.test("fieldAt() finds a field by its path, and no section", () => {
  assert.equal(fieldAt("conntrack.tcpCloseWaitTimeout").kind, "duration");
  assert.throws(() => fieldAt("conntrack"), RangeError);
});
