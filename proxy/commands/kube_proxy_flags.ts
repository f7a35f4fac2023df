/**
 * kube-proxy's own flags (1.36), by their names: each sets a field of its
 * configuration, whose default it has. Facts 8.80–8.90.
 *
 * @module
 */
import type { FlagSpec, FlagSpecs } from "./flags.ts";

/** A flag for what cannot mean anything here: accepted, and in no help. */
function ignored(field: string): FlagSpec & { readonly type: "string" } {
  return { type: "string", field, silent: true, help: "Accepted." };
}

function ignoredSwitch(field: string): FlagSpec & { readonly type: "boolean" } {
  return { type: "boolean", field, silent: true, help: "Accepted." };
}

function ipvsTimeout(
  field: string,
  what: string,
): FlagSpec & { readonly type: "string" } {
  return {
    type: "string",
    value: "DURATION",
    field,
    standard: "0s",
    help: `ipvs mode: how long the kernel keeps ${what}; 0s: as it does.`,
  };
}

export const KUBE_PROXY_FLAGS = {
  config: {
    type: "string",
    value: "FILE",
    help:
      "KubeProxyConfiguration; then kube-proxy's other flags do not count, but for --hostname-override, --master and those about logs.",
  },
  "write-config-to": {
    type: "string",
    value: "FILE|-",
    help: "Write the configuration with its defaults there, and exit.",
  },
  kubeconfig: {
    type: "string",
    value: "FILE",
    field: "clientConnection.kubeconfig",
    help:
      "Kubeconfig of the cluster; without it KUBECONFIG, the pod's service account, or ~/.kube/config.",
  },
  master: {
    type: "string",
    value: "URL",
    help: "Address of the API server, instead of the kubeconfig's.",
  },
  "hostname-override": {
    type: "string",
    value: "NAME",
    field: "hostnameOverride",
    help: "Name of this Node, instead of the host name.",
  },
  "proxy-mode": {
    type: "string",
    value: "MODE",
    field: "mode",
    help:
      "userspace, which is what nothing means; or iptables, ipvs, nftables: the kernel does it, with what kube-proxy loads.",
  },
  "bind-address": {
    type: "string",
    value: "IP",
    field: "bindAddress",
    help: "Accepted as kube-proxy has it: it binds nothing.",
  },
  "nodeport-addresses": {
    type: "string",
    list: true,
    value: "CIDR[,CIDR]|primary",
    field: "nodePortAddresses",
    help:
      "Addresses of this node that serve NodePorts: those in the CIDRs, the Node's own (primary), localhost; without it all of them.",
  },
  "iptables-localhost-nodeports": {
    type: "boolean",
    field: "iptables.localhostNodePorts",
    help: "Serve NodePorts on 127.0.0.1 and ::1; on unless set to false.",
  },
  "cluster-cidr": {
    type: "string",
    value: "CIDR[,CIDR]",
    field: "clusterCIDR",
    help:
      "Addresses of the cluster's pods: externalTrafficPolicy Local does not hold for them.",
  },
  "detect-local-mode": {
    type: "string",
    value: "MODE",
    field: "detectLocalMode",
    help:
      "ClusterCIDR, else --cluster-cidr does not count: the own Node's podCIDRs always do.",
  },
  "healthz-bind-address": {
    type: "string",
    value: "IP:PORT",
    field: "healthzBindAddress",
    standard: "0.0.0.0:10256",
    help: "Where /healthz and /livez answer; empty: nowhere.",
  },
  "metrics-bind-address": {
    type: "string",
    value: "IP:PORT",
    field: "metricsBindAddress",
    standard: "127.0.0.1:10249",
    help:
      "Where /metrics, /proxyMode and /configz answer, and on loopback the dashboard; empty: nowhere.",
  },
  "healthz-port": {
    type: "string",
    value: "PORT",
    deprecated: "--healthz-bind-address",
    help: "Deprecated: the port of --healthz-bind-address; 0 turns it off.",
  },
  "metrics-port": {
    type: "string",
    value: "PORT",
    deprecated: "--metrics-bind-address",
    help: "Deprecated: the port of --metrics-bind-address; 0 turns it off.",
  },
  "bind-address-hard-fail": {
    type: "boolean",
    field: "bindAddressHardFail",
    help:
      "Exit if the address for health or metrics is taken, instead of trying again every 5 s; for health without --config always so.",
  },
  "iptables-sync-period": {
    type: "string",
    value: "DURATION",
    field: "iptables.syncPeriod",
    standard: "30s",
    help: "How often addresses and steering are looked at without a change.",
  },
  "iptables-min-sync-period": {
    type: "string",
    value: "DURATION",
    field: "iptables.minSyncPeriod",
    standard: "1s",
    help:
      "How long rules stay as they are once written; listeners and endpoints change at once, and there two writes may follow each other.",
  },
  "init-only": {
    type: "boolean",
    help: "Do what needs privileges once, and exit: there is nothing to do.",
  },
  profiling: ignoredSwitch("enableProfiling"),
  "show-hidden-metrics-for-version": ignored("showHiddenMetricsForVersion"),
  "feature-gates": { ...ignored("featureGates"), list: true },
  "kube-api-content-type": ignored("clientConnection.contentType"),
  "kube-api-burst": ignored("clientConnection.burst"),
  "kube-api-qps": ignored("clientConnection.qps"),
  "iptables-masquerade-bit": {
    type: "string",
    value: "BIT",
    field: "iptables.masqueradeBit",
    standard: "14",
    help: "Bit of the packet mark that asks kernel modes for masquerading.",
  },
  "masquerade-all": {
    type: "boolean",
    field: "iptables.masqueradeAll",
    help: "Kernel modes masquerade everything that goes to a ClusterIP.",
  },
  "ipvs-sync-period": {
    type: "string",
    value: "DURATION",
    field: "ipvs.syncPeriod",
    standard: "30s",
    help: "ipvs mode: how often to look whether all of it is there.",
  },
  "ipvs-min-sync-period": {
    type: "string",
    value: "DURATION",
    field: "ipvs.minSyncPeriod",
    help: "ipvs mode: the least time between two writes.",
  },
  "ipvs-scheduler": {
    type: "string",
    value: "NAME",
    field: "ipvs.scheduler",
    standard: "rr",
    help: "ipvs mode: who chooses the endpoint; any scheduler of the kernel.",
  },
  "ipvs-exclude-cidrs": {
    type: "string",
    value: "CIDR[,CIDR]",
    field: "ipvs.excludeCIDRs",
    list: true,
    help: "ipvs mode: virtual servers in here are somebody else's, and stay.",
  },
  "ipvs-strict-arp": {
    type: "boolean",
    field: "ipvs.strictARP",
    help:
      "ipvs mode: answer ARP only for addresses of the interface it came by.",
  },
  "ipvs-tcp-timeout": ipvsTimeout("ipvs.tcpTimeout", "idle TCP connections"),
  "ipvs-tcpfin-timeout": ipvsTimeout(
    "ipvs.tcpFinTimeout",
    "TCP connections after a FIN",
  ),
  "ipvs-udp-timeout": ipvsTimeout("ipvs.udpTimeout", "UDP flows"),
  "pod-bridge-interface": {
    type: "string",
    value: "NAME",
    field: "detectLocal.bridgeInterface",
    help: "For kernel modes: what comes in by this interface is from pods.",
  },
  "pod-interface-name-prefix": {
    type: "string",
    value: "PREFIX",
    field: "detectLocal.interfaceNamePrefix",
    help: "For kernel modes: what comes in by such interfaces is from pods.",
  },
  "oom-score-adj": ignored("oomScoreAdj"),
  "conntrack-max-per-core": ignored("conntrack.maxPerCore"),
  "conntrack-min": ignored("conntrack.min"),
  "conntrack-tcp-timeout-established": ignored(
    "conntrack.tcpEstablishedTimeout",
  ),
  "conntrack-tcp-timeout-close-wait": ignored("conntrack.tcpCloseWaitTimeout"),
  "conntrack-tcp-be-liberal": ignoredSwitch("conntrack.tcpBeLiberal"),
  "conntrack-udp-timeout": ignored("conntrack.udpTimeout"),
  "conntrack-udp-timeout-stream": ignored("conntrack.udpStreamTimeout"),
  "config-sync-period": ignored("configSyncPeriod"),
  vmodule: { type: "string", silent: true, list: true, help: "Accepted." },
  "log-flush-frequency": ignored("logging.flushFrequency"),
  "log-json-info-buffer-size": {
    type: "string",
    silent: true,
    help: "Accepted.",
  },
  "log-json-split-stream": { type: "boolean", silent: true, help: "Accepted." },
  "log-text-info-buffer-size": {
    type: "string",
    silent: true,
    help: "Accepted.",
  },
  "log-text-split-stream": { type: "boolean", silent: true, help: "Accepted." },
} as const satisfies FlagSpecs;
