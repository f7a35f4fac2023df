/**
 * Every metric by name: its type, its labels, what it says. The one list that
 * `/metrics`, the Grafana dashboard, the alert rules and README's table are
 * made from or held to. Names that kube-proxy has mean what they mean there.
 *
 * @module
 */

export interface MetricSpec {
  readonly type: "counter" | "gauge" | "histogram";
  /** One sentence, without a full stop. */
  readonly help: string;
  readonly labels: readonly string[];
}

/** Labels of whatever is counted for each Service port. */
const PORT = [
  "service_namespace",
  "service_name",
  "service_port",
  "protocol",
  "ip_family",
] as const;

function spec(
  type: MetricSpec["type"],
  help: string,
  labels: readonly string[] = [],
): MetricSpec {
  return { type, help, labels };
}

/** What kube-proxy has too (facts 7.26–7.37), and what all of Kubernetes has. */
const UPSTREAM = {
  kubeproxy_sync_proxy_rules_duration_seconds: spec(
    "histogram",
    "How long a sync took: listeners opened and closed, steering written",
    ["ip_family"],
  ),
  kubeproxy_sync_full_proxy_rules_duration_seconds: spec(
    "histogram",
    "How long a write of everything took, in kernel modes",
    ["ip_family"],
  ),
  kubeproxy_sync_partial_proxy_rules_duration_seconds: spec(
    "histogram",
    "How long a write of what changed took, in kernel modes",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_iptables_total: spec(
    "gauge",
    "Rules that iptables mode has in the kernel",
    ["table", "ip_family"],
  ),
  kubeproxy_sync_proxy_rules_iptables_last: spec(
    "gauge",
    "Rules in the last write of iptables mode",
    ["table", "ip_family"],
  ),
  kubeproxy_sync_proxy_rules_iptables_restore_failures_total: spec(
    "counter",
    "Writes of iptables mode that failed",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total: spec(
    "counter",
    "Those of them that were of what changed",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_nftables_sync_failures_total: spec(
    "counter",
    "Writes of nftables mode that failed",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total: spec(
    "counter",
    "Times that nftables mode could not delete chains that are not used any more",
    ["ip_family"],
  ),
  kubeproxy_conntrack_reconciler_deleted_entries_total: spec(
    "counter",
    "UDP flows forgotten, since their endpoint no longer served, in kernel modes",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_last_timestamp_seconds: spec(
    "gauge",
    "When a sync last succeeded",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds: spec(
    "gauge",
    "When a sync was last asked for",
    ["ip_family"],
  ),
  kubeproxy_network_programming_duration_seconds: spec(
    "histogram",
    "From a change of an endpoint in the cluster to its effect here",
    ["ip_family"],
  ),
  kubeproxy_sync_proxy_rules_endpoint_changes_pending: spec(
    "gauge",
    "Changed EndpointSlices that no sync has taken up",
  ),
  kubeproxy_sync_proxy_rules_endpoint_changes_total: spec(
    "counter",
    "Changes of EndpointSlices",
  ),
  kubeproxy_sync_proxy_rules_service_changes_pending: spec(
    "gauge",
    "Changed Services that no sync has taken up",
  ),
  kubeproxy_sync_proxy_rules_service_changes_total: spec(
    "counter",
    "Changes of Services",
  ),
  kubeproxy_sync_proxy_rules_no_local_endpoints_total: spec(
    "gauge",
    "Service ports with a traffic policy of Local and no endpoint on this node",
    ["ip_family", "traffic_policy"],
  ),
  kubeproxy_proxy_healthz_total: spec("counter", "Answers of /healthz", [
    "code",
  ]),
  kubeproxy_proxy_livez_total: spec("counter", "Answers of /livez", ["code"]),
  rest_client_requests_total: spec(
    "counter",
    "Requests to the API server; code <error>: no answer",
    ["code", "host", "method"],
  ),
  rest_client_request_duration_seconds: spec(
    "histogram",
    "Requests to the API server, to the header of the answer",
    ["host", "verb"],
  ),
  process_start_time_seconds: spec("gauge", "When this process started"),
  process_cpu_seconds_total: spec(
    "counter",
    "CPU time of this process, user and system",
  ),
  process_resident_memory_bytes: spec("gauge", "Resident memory"),
} as const satisfies Record<string, MetricSpec>;

/** What only a userspace proxy knows. */
const OWN = {
  kube_portal_build_info: spec("gauge", "Always 1; its labels say what runs", [
    "version",
    "deno_version",
    "engine",
    "steering",
  ]),
  kube_portal_services: spec("gauge", "Services that are served"),
  kube_portal_service_ports: spec(
    "gauge",
    "Service ports, one for each IP family; with series of their own or not",
  ),
  kube_portal_listeners: spec("gauge", "Addresses of Services listened on"),
  kube_portal_unserved_addresses: spec(
    "gauge",
    "Addresses that should be served and are not: see status for the reasons",
  ),
  kube_portal_endpoints: spec(
    "gauge",
    "Endpoints of Service ports: ready, terminating or not_ready",
    ["state"],
  ),
  kube_portal_watch_up: spec(
    "gauge",
    "1 while changes of this resource are followed, 0 while it waits",
    ["resource"],
  ),
  kube_portal_connections_open: spec("gauge", "Open TCP connections", PORT),
  kube_portal_connections_total: spec(
    "counter",
    "Connections accepted; of UDP, flows",
    PORT,
  ),
  kube_portal_connections_failed_total: spec(
    "counter",
    "Connections for which no endpoint could be reached",
    PORT,
  ),
  kube_portal_connections_refused_total: spec(
    "counter",
    "Clients turned away by a source range, a traffic policy or a flood",
    PORT,
  ),
  kube_portal_bytes_total: spec(
    "counter",
    "Bytes forwarded; direction: to_endpoint or to_client",
    [...PORT, "direction"],
  ),
  kube_portal_dial_failures_total: spec(
    "counter",
    "Dials that an endpoint did not accept; reason: refused or timeout",
    [...PORT, "reason"],
  ),
  kube_portal_endpoints_ejected: spec(
    "gauge",
    "Endpoints passed over for failed dials, until a trial succeeds",
    PORT,
  ),
  kube_portal_dial_duration_seconds: spec(
    "histogram",
    "From a client's arrival until an endpoint had answered (TCP)",
    PORT,
  ),
  kube_portal_connection_duration_seconds: spec(
    "histogram",
    "How long TCP connections that have ended were open",
    PORT,
  ),
  kube_portal_affinity_entries: spec(
    "gauge",
    "Clients that session affinity remembers",
    PORT,
  ),
  kube_portal_udp_flows_open: spec("gauge", "Open UDP flows", PORT),
  kube_portal_udp_flows_evicted_total: spec(
    "counter",
    "UDP flows ended early to make room for others",
    PORT,
  ),
  kube_portal_udp_datagrams_dropped_total: spec(
    "counter",
    "Datagrams that did not get to their endpoint or client",
    PORT,
  ),
} as const satisfies Record<string, MetricSpec>;

export const METRICS = { ...UPSTREAM, ...OWN } as const;

export type MetricName = keyof typeof METRICS;

/** In the order of the table. */
export const METRIC_NAMES = Object.keys(METRICS) as MetricName[];
