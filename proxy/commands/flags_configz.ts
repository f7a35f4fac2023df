/**
 * The flags that were given, in the words of kube-proxy's configuration file:
 * what `/configz` shows.
 *
 * @module
 */
import type { RUN_FLAGS } from "./flag_tables.ts";
import type { FlagValues } from "./flags.ts";

/** A KubeProxyConfiguration of the fields that flags set (fact 7.20). */
export function flagsConfigz(
  flags: FlagValues<typeof RUN_FLAGS>,
): Record<string, unknown> {
  const cidrs = flags["nodeport-addresses"];
  return {
    kind: "KubeProxyConfiguration",
    apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
    clientConnection: { kubeconfig: flags.kubeconfig ?? "" },
    logging: { format: flags["logging-format"], verbosity: Number(flags.v) },
    hostnameOverride: flags["hostname-override"] ?? "",
    healthzBindAddress: flags["healthz-bind-address"],
    metricsBindAddress: flags["metrics-bind-address"],
    mode: "userspace",
    clusterCIDR: flags["cluster-cidr"] ?? "",
    nodePortAddresses: cidrs ? cidrs.split(",") : null,
  };
}
