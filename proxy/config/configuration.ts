/**
 * Every field of KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1, as of
 * Kubernetes 1.36), with its default (facts 8.1–8.42). A table: what becomes of
 * the values is for others to know. Pure.
 *
 * @module
 */
import type { FieldOf, Section, Values } from "./fields.ts";

export const API_VERSION = "kubeproxy.config.k8s.io/v1alpha1";
export const KIND = "KubeProxyConfiguration";

/** What an empty `mode` means. */
export const PROXY_MODE = "userspace";

/** Modes that run here; but for ours they are upstream's. */
export const PROXY_MODES: readonly string[] = [
  PROXY_MODE,
  "iptables",
  "ipvs",
  "nftables",
];

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;

export const FIELDS = {
  featureGates: { kind: "switches", default: {}, omitZero: true },
  clientConnection: {
    kubeconfig: text(),
    acceptContentTypes: text(),
    contentType: text("application/vnd.kubernetes.protobuf"),
    qps: { kind: "number", default: 5 },
    burst: { kind: "integer", default: 10 },
  },
  logging: {
    format: text("text"),
    flushFrequency: {
      kind: "duration",
      default: 5 * SECOND_MS,
      numberIsNs: true,
    },
    verbosity: { kind: "integer", default: 0 },
    vmodule: { kind: "anything", default: [], omitZero: true },
    options: {
      kind: "anything",
      default: {
        text: { infoBufferSize: "0" },
        json: { infoBufferSize: "0" },
      },
    },
  },
  hostnameOverride: text(),
  bindAddress: text("0.0.0.0"),
  // Their defaults follow bindAddress: see bind_addresses.ts.
  healthzBindAddress: text(),
  metricsBindAddress: text(),
  bindAddressHardFail: switchedOff(),
  enableProfiling: switchedOff(),
  showHiddenMetricsForVersion: text(),
  mode: text(),
  iptables: {
    masqueradeBit: { kind: "integer", default: 14, keepsZero: true },
    masqueradeAll: switchedOff(),
    localhostNodePorts: { kind: "boolean", default: true, keepsZero: true },
    syncPeriod: duration(30 * SECOND_MS),
    minSyncPeriod: duration(SECOND_MS),
  },
  ipvs: {
    syncPeriod: duration(30 * SECOND_MS),
    minSyncPeriod: duration(0),
    scheduler: text(),
    excludeCIDRs: texts(),
    strictARP: switchedOff(),
    tcpTimeout: duration(0),
    tcpFinTimeout: duration(0),
    udpTimeout: duration(0),
  },
  nftables: {
    masqueradeBit: { kind: "integer", default: 14, keepsZero: true },
    masqueradeAll: switchedOff(),
    syncPeriod: duration(30 * SECOND_MS),
    minSyncPeriod: duration(SECOND_MS),
  },
  winkernel: {
    networkName: text(),
    sourceVip: text(),
    enableDSR: switchedOff(),
    rootHnsEndpointName: text(),
    forwardHealthCheckVip: switchedOff(),
  },
  detectLocalMode: text("ClusterCIDR"),
  detectLocal: { bridgeInterface: text(), interfaceNamePrefix: text() },
  clusterCIDR: text(),
  nodePortAddresses: texts(),
  oomScoreAdj: { kind: "integer", default: -999, keepsZero: true },
  conntrack: {
    maxPerCore: { kind: "integer", default: 32_768, keepsZero: true },
    min: { kind: "integer", default: 131_072, keepsZero: true },
    tcpEstablishedTimeout: {
      kind: "duration",
      default: 24 * HOUR_MS,
      keepsZero: true,
    },
    tcpCloseWaitTimeout: {
      kind: "duration",
      default: HOUR_MS,
      keepsZero: true,
    },
    tcpBeLiberal: switchedOff(),
    udpTimeout: duration(0),
    udpStreamTimeout: duration(0),
  },
  configSyncPeriod: duration(15 * MINUTE_MS),
  portRange: text(),
  // Of the userspace mode that kube-proxy had until 1.25; unknown upstream now.
  udpIdleTimeout: { kind: "duration", default: 0, omitZero: true },
  windowsRunAsService: { kind: "boolean", default: false, omitZero: true },
} as const satisfies Section;

/** Every value, defaults included; durations are milliseconds. */
export type KubeProxyConfiguration = Values<typeof FIELDS>;

function text(value = ""): FieldOf<"text"> {
  return { kind: "text", default: value };
}

function texts(): FieldOf<"texts"> {
  return { kind: "texts", default: [] };
}

function duration(ms: number): FieldOf<"duration"> {
  return { kind: "duration", default: ms };
}

function switchedOff(): FieldOf<"boolean"> {
  return { kind: "boolean", default: false };
}
