/**
 * What kernel modes are told where nothing else was said, as kube-proxy's own
 * defaults are.
 *
 * @module
 */
import type { ModeSettings } from "../../proxy/rules/modes/mode_input.ts";

export const DEFAULT_MODE_SETTINGS: ModeSettings = {
  detectLocalMode: "ClusterCIDR",
  bridgeInterface: "",
  interfaceNamePrefix: "",
  clusterCidrs: [],
  masqueradeAll: false,
  masqueradeBit: 14,
  localhostNodePorts: true,
  bindAddress: "",
  ipvs: {
    scheduler: "rr",
    excludeCidrs: [],
    strictArp: false,
    tcpTimeoutMs: 0,
    tcpFinTimeoutMs: 0,
    udpTimeoutMs: 0,
  },
};
