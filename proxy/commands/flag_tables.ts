/**
 * The flags of every command. kube-proxy's keep their names and meaning.
 *
 * @module
 */
import type { FlagSpecs } from "./flags.ts";
import { KUBE_PROXY_FLAGS } from "./kube_proxy_flags.ts";
import { LOG_FLAGS } from "./verbosity.ts";

/** kube-proxy's flags that say something about the program of a kernel mode. */
const MODE_FLAGS = {
  config: KUBE_PROXY_FLAGS.config,
  kubeconfig: KUBE_PROXY_FLAGS.kubeconfig,
  context: {
    type: "string",
    value: "NAME",
    help: "Context of the kubeconfig, instead of its current one.",
  },
  master: KUBE_PROXY_FLAGS.master,
  manifests: {
    type: "string",
    value: "DIR",
    help: "Read the cluster from YAML files: no API server.",
  },
  "hostname-override": {
    ...KUBE_PROXY_FLAGS["hostname-override"],
    help:
      "Name of this Node; without it the host name, or the first Node of --manifests.",
  },
  "cluster-cidr": {
    ...KUBE_PROXY_FLAGS["cluster-cidr"],
    help:
      "Addresses of the cluster's pods: what comes from others is masqueraded.",
  },
  "detect-local-mode": {
    ...KUBE_PROXY_FLAGS["detect-local-mode"],
    help:
      "How pods of this node are told: ClusterCIDR, NodeCIDR, BridgeInterface, InterfaceNamePrefix.",
  },
  "pod-bridge-interface": KUBE_PROXY_FLAGS["pod-bridge-interface"],
  "pod-interface-name-prefix": KUBE_PROXY_FLAGS["pod-interface-name-prefix"],
  "nodeport-addresses": {
    ...KUBE_PROXY_FLAGS["nodeport-addresses"],
    help:
      "Addresses that serve NodePorts; without it all of the node's, and primary in nftables mode.",
  },
  "iptables-localhost-nodeports":
    KUBE_PROXY_FLAGS["iptables-localhost-nodeports"],
  "iptables-masquerade-bit": KUBE_PROXY_FLAGS["iptables-masquerade-bit"],
  "masquerade-all": KUBE_PROXY_FLAGS["masquerade-all"],
  "ipvs-scheduler": KUBE_PROXY_FLAGS["ipvs-scheduler"],
  "ipvs-strict-arp": KUBE_PROXY_FLAGS["ipvs-strict-arp"],
  "ipvs-exclude-cidrs": KUBE_PROXY_FLAGS["ipvs-exclude-cidrs"],
  "bind-address": KUBE_PROXY_FLAGS["bind-address"],
  "service-cidr": {
    type: "string",
    value: "CIDR[,CIDR]",
    help: "Service addresses; without it the cluster's ServiceCIDRs.",
  },
} as const satisfies FlagSpecs;

export const RENDER_FLAGS = {
  "proxy-mode": {
    type: "string",
    choices: ["iptables", "ipvs", "nftables"],
    help: "Whose program; without it the mode of --config.",
  },
  "ip-family": {
    type: "string",
    choices: ["ipv4", "ipv6"],
    default: "ipv4",
    help: "Each family has a program of its own.",
  },
  jumps: {
    type: "boolean",
    help:
      "With the rules that lead from the kernel's own chains, which upstream inserts apart.",
  },
  part: {
    type: "string",
    choices: ["ipset", "iptables", "ipvsadm", "addresses"],
    help:
      "Of ipvs mode: the input of one of its tools, rather than a script for all.",
  },
  nfacct: {
    type: "boolean",
    help: "With the rules that count, for kernels that have nfacct.",
  },
  ...MODE_FLAGS,
  ...LOG_FLAGS,
} as const satisfies FlagSpecs;

export const EXPLAIN_FLAGS = {
  "proxy-mode": {
    type: "string",
    choices: ["all", "userspace", "iptables", "ipvs", "nftables"],
    default: "all",
    help: "In which mode; all: one after the other.",
  },
  from: {
    type: "string",
    value: "pod|node|outside|IP",
    default: "pod",
    help:
      "Who connects: a pod of this node, the node itself, somebody outside of the cluster, or an address.",
  },
  "ip-family": {
    type: "string",
    choices: ["ipv4", "ipv6"],
    help: "Of a Service that has both. Default: that of the target, or ipv4.",
  },
  json: { type: "boolean", help: "Everything, for scripts." },
  mermaid: {
    type: "boolean",
    help: "A flow chart that GitHub and many editors draw.",
  },
  ...MODE_FLAGS,
  ...LOG_FLAGS,
} as const satisfies FlagSpecs;

const STEER_FLAG = {
  type: "string",
  choices: ["auto", "portal", "redirect", "route", "none"],
  default: "auto",
  help: "How packets for Service addresses come to the proxy.",
} as const;

export const RUN_FLAGS = {
  ...KUBE_PROXY_FLAGS,
  context: {
    type: "string",
    value: "NAME",
    help: "Context of the kubeconfig, instead of its current one.",
  },
  manifests: {
    type: "string",
    value: "DIR",
    help:
      "Read Services and EndpointSlices from YAML files, and follow them: no API server.",
  },
  steer: STEER_FLAG,
  "proxy-port-range": {
    type: "string",
    value: "FIRST-LAST",
    help: "Ports of listeners for --steer redirect; without it 20000-29999.",
  },
  "service-cidr": {
    type: "string",
    value: "CIDR[,CIDR]",
    help:
      "Service addresses, for --steer portal and route; without it the cluster's ServiceCIDRs.",
  },
  watch: {
    type: "string",
    choices: ["auto", "watch", "poll"],
    default: "auto",
    help:
      "How changes are followed; poll where a proxy or server breaks watches.",
  },
  "poll-interval": {
    type: "string",
    value: "DURATION",
    default: "2s",
    help: "Time between two lists when polling.",
  },
  "drain-timeout": {
    type: "string",
    value: "DURATION",
    default: "20s",
    help: "How long open connections may take to end at SIGTERM.",
  },
  "take-over": {
    type: "boolean",
    help:
      "Take over from a kube-portal that runs here, listening sockets included; it ends then.",
  },
  "stay-when-replaced": {
    type: "boolean",
    help:
      "After another kube-portal took over, stay until told to stop: for supervisors that would start it again.",
  },
  engine: {
    type: "string",
    choices: ["auto", "portable", "splice"],
    default: "auto",
    help:
      "What moves the bytes of TCP; splice needs Linux and --allow-ffi, and auto takes it there.",
  },
  workers: {
    type: "string",
    value: "NUMBER",
    default: "1",
    help: "Threads of the splice engine.",
  },
  "dashboard-bind-address": {
    type: "string",
    value: "IP:PORT",
    help:
      "Where the dashboard answers; without it on the metrics port, if that is on loopback.",
  },
  "udp-timeout": {
    type: "string",
    value: "DURATION",
    default: "60s",
    help: "How long a UDP flow may be silent before it is forgotten.",
  },
  cleanup: {
    type: "boolean",
    help: "Remove every rule and route that was installed, and exit.",
  },
  "cleanup-on-exit": {
    type: "boolean",
    help:
      "Remove rules and routes at the end, instead of leaving them for the next start.",
  },
  version: {
    type: "boolean",
    alsoTrue: ["raw"],
    help: "Print the version and exit.",
  },
  ...LOG_FLAGS,
} as const satisfies FlagSpecs;

export const DEMO_FLAGS = {
  once: {
    type: "boolean",
    help:
      "Send requests to every Service, print who answered, and exit 0 if all was right.",
  },
  "apiserver-port": {
    type: "string",
    value: "PORT",
    default: "8001",
    help: "Port of the embedded API server on 127.0.0.1.",
  },
  "healthz-bind-address": {
    type: "string",
    value: "IP:PORT",
    default: "127.0.0.1:10256",
    help: "Where /healthz and /livez answer; empty: nowhere.",
  },
  "metrics-bind-address": {
    type: "string",
    value: "IP:PORT",
    default: "127.0.0.1:10249",
    help: "Where /metrics and the dashboard answer; empty: nowhere.",
  },
  ...LOG_FLAGS,
} as const satisfies FlagSpecs;

export const APISERVER_FLAGS = {
  port: {
    type: "string",
    value: "PORT",
    default: "8001",
    help: "Port on 127.0.0.1.",
  },
  "service-cidr": {
    type: "string",
    value: "CIDR[,CIDR]",
    default: "10.96.0.0/16",
    help: "Where ClusterIPs are allocated; one for each IP family.",
  },
  manifests: {
    type: "string",
    value: "DIR",
    help: "YAML files to begin with.",
  },
  ...LOG_FLAGS,
} as const satisfies FlagSpecs;

export const DAEMONSET_FLAGS = {
  server: {
    type: "string",
    value: "https://HOST:PORT",
    help:
      "The API server, by an address that needs no proxy; without it the kubeconfig's.",
  },
  kubeconfig: {
    type: "string",
    value: "FILE",
    help: "Where the API server's address is read without --server.",
  },
  context: {
    type: "string",
    value: "NAME",
    help: "Context of the kubeconfig, instead of its current one.",
  },
  image: {
    type: "string",
    value: "IMAGE",
    help: "Whose entry point is kube-portal; without it kube-portal:VERSION.",
  },
  namespace: {
    type: "string",
    short: "n",
    value: "NAME",
    default: "kube-system",
    help: "Where it is installed.",
  },
  steer: STEER_FLAG,
} as const satisfies FlagSpecs;

export const STATUS_FLAGS = {
  json: { type: "boolean", help: "Everything, as JSON, for scripts." },
  watch: { type: "boolean", help: "Show it again every 2 s, until Ctrl-C." },
  "metrics-bind-address": {
    type: "string",
    value: "IP:PORT",
    default: "127.0.0.1:10249",
    help: "Where the proxy answers: its metrics address, or its dashboard's.",
  },
} as const satisfies FlagSpecs;

export const DOCTOR_FLAGS = {
  kubeconfig: {
    type: "string",
    value: "FILE",
    help: "Where the API server is and who we are.",
  },
  context: {
    type: "string",
    value: "NAME",
    help: "Context of the kubeconfig, instead of its current one.",
  },
  master: {
    type: "string",
    value: "URL",
    help: "The API server's address, instead of the kubeconfig's.",
  },
  "hostname-override": {
    type: "string",
    value: "NAME",
    help: "The own Node; without it the host name.",
  },
  steer: STEER_FLAG,
  json: {
    type: "boolean",
    help: "Print JSON.",
  },
} as const satisfies FlagSpecs;

export const CLEANUP_FLAGS = { ...LOG_FLAGS } as const satisfies FlagSpecs;
