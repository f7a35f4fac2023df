/**
 * A validated configuration in the terms of the stages that `run` wires.
 *
 * @module
 */
import { canonicalCidr } from "../ip.ts";
import type { KubeProxyConfiguration } from "../config/mod.ts";
import { nodePortSelection } from "../node_addresses.ts";
import type { ModeSettings } from "../rules/modes/mode_input.ts";
import { UserError } from "./errors.ts";
import { cidrList } from "./flags.ts";
import type { KernelMode } from "../rules/modes/mode_input.ts";
import type { AddressSettings } from "./running_proxy.ts";
import type { LogSettings } from "./verbosity.ts";

/** Level and format, as the flags say them. */
export function logFlagsOf({ logging }: KubeProxyConfiguration): LogSettings {
  return { v: String(logging.verbosity), "logging-format": logging.format };
}

/** The validated configuration's words about addresses. */
export function addressSettings(
  config: KubeProxyConfiguration,
): AddressSettings {
  const selection = nodePortSelection(config.nodePortAddresses.join(","));
  const isClusterCidr = ["", "ClusterCIDR"].includes(config.detectLocalMode);
  return {
    ...("invalid" in selection ? {} : { nodePorts: selection }),
    clusterCidrs: isClusterCidr
      ? cidrList(config.clusterCIDR, "cluster-cidr")
      : [],
    localhostNodePorts: config.iptables.localhostNodePorts,
    bindAddress: config.bindAddress,
  };
}

/** Which section a mode has its periods from (fact 8.44). */
export function modePeriods(
  config: KubeProxyConfiguration,
  mode: KernelMode,
): { readonly syncPeriod: number; readonly minSyncPeriod: number } {
  return config[mode];
}

/**
 * The same, in the words of kernel modes.
 *
 * @param mode whose section counts; flags set the one of iptables, for all
 */
export function modeSettings(
  config: KubeProxyConfiguration,
  mode: KernelMode = "iptables",
): ModeSettings {
  const { iptables, nftables, ipvs, detectLocal } = config;
  const { nodePorts } = addressSettings(config);
  const ofMode = mode === "nftables" ? nftables : iptables;
  return {
    ...(nodePorts === undefined ? {} : { nodePorts }),
    detectLocalMode: config.detectLocalMode,
    bridgeInterface: detectLocal.bridgeInterface,
    interfaceNamePrefix: detectLocal.interfaceNamePrefix,
    clusterCidrs: cidrList(config.clusterCIDR, "cluster-cidr"),
    masqueradeAll: ofMode.masqueradeAll,
    masqueradeBit: ofMode.masqueradeBit,
    localhostNodePorts: iptables.localhostNodePorts,
    bindAddress: config.bindAddress,
    ipvs: {
      scheduler: ipvs.scheduler || "rr",
      excludeCidrs: ipvs.excludeCIDRs.map((text) => canonicalCidr(text))
        .filter((cidr) => cidr !== undefined),
      strictArp: ipvs.strictARP,
      tcpTimeoutMs: ipvs.tcpTimeout,
      tcpFinTimeoutMs: ipvs.tcpFinTimeout,
      udpTimeoutMs: ipvs.udpTimeout,
    },
  };
}

/**
 * Trimmed and in lower case, as a Node's name is (fact 8.69).
 *
 * @throws {UserError} if there is none
 */
export function nodeNameOf(
  { hostnameOverride }: KubeProxyConfiguration,
): string {
  const name = (hostnameOverride || Deno.hostname()).trim().toLowerCase();
  if (name === "") {
    throw new UserError(
      "Cannot name this Node: empty hostname is invalid; give --hostname-override",
    );
  }
  return name;
}
