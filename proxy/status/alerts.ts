/**
 * Alert rules for Prometheus, as data: what somebody should look at, and where.
 *
 * @module
 */
import type { MetricName } from "./metric_table.ts";

interface Alert {
  readonly name: string;
  readonly expr: string;
  /** How long it has to be so. */
  readonly for: string;
  readonly severity: "critical" | "warning";
  readonly summary: string;
  /** What to do first. */
  readonly description: string;
}

/** A name that the type checker knows. */
function metric(name: MetricName): MetricName {
  return name;
}

const ALERTS: readonly Alert[] = [
  {
    name: "KubePortalNotSyncing",
    expr: `time() - ${
      metric("kubeproxy_sync_proxy_rules_last_timestamp_seconds")
    } > 300 and on (instance) ${metric("kube_portal_build_info")}`,
    for: "5m",
    severity: "critical",
    summary: "{{ $labels.instance }} has not synced for 5 minutes",
    description:
      "Changes of Services and endpoints have no effect on this node. Look at its log and at kube-portal status.",
  },
  {
    name: "KubePortalWatchDown",
    expr: `${metric("kube_portal_watch_up")} == 0`,
    for: "5m",
    severity: "warning",
    summary:
      "{{ $labels.instance }} does not hear of changes of {{ $labels.resource }}",
    description:
      "It goes on with what it knew. Is the API server reachable from the node, and may the proxy list and watch?",
  },
  {
    name: "KubePortalAddressesNotServed",
    expr: `${metric("kube_portal_unserved_addresses")} > 0`,
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.instance }} cannot serve {{ $value }} addresses",
    description:
      "kube-portal status names them and says why: a port that a process has, an address that two Services want, steering that fails.",
  },
  {
    name: "KubePortalConnectionsFail",
    expr: `sum by (service_namespace, service_name, service_port) (rate(${
      metric("kube_portal_connections_failed_total")
    }[5m])) > 0.05 * sum by (service_namespace, service_name, service_port) (rate(${
      metric("kube_portal_connections_total")
    }[5m]))`,
    for: "5m",
    severity: "warning",
    summary:
      "More than 5 % of the connections to {{ $labels.service_namespace }}/{{ $labels.service_name }} reach no endpoint",
    description:
      "All endpoints refuse or do not answer in time. Are the pods listening on the target port, and does a NetworkPolicy keep the nodes out?",
  },
  {
    name: "KubePortalEndpointsEjected",
    expr: `${metric("kube_portal_endpoints_ejected")} > 0`,
    for: "5m",
    severity: "warning",
    summary:
      "{{ $value }} endpoints of {{ $labels.service_namespace }}/{{ $labels.service_name }} take no connection from {{ $labels.instance }}",
    description:
      "The API says that they are ready, and dials to them fail: kube-portal status names them. A dead node, a NetworkPolicy, or a port that nobody listens on?",
  },
  {
    name: "KubePortalSlowToProgram",
    expr: `histogram_quantile(0.99, sum by (le, instance) (rate(${
      metric("kubeproxy_network_programming_duration_seconds")
    }_bucket[10m]))) > 10`,
    for: "10m",
    severity: "warning",
    summary:
      "Changed endpoints take {{ $value }} s to have an effect on {{ $labels.instance }}",
    description:
      "Most of that is usually the control plane's: compare with kubeproxy_sync_proxy_rules_duration_seconds.",
  },
  {
    name: "KubePortalUdpFlowsEvicted",
    expr: `sum by (instance) (rate(${
      metric("kube_portal_udp_flows_evicted_total")
    }[5m])) > 1`,
    for: "10m",
    severity: "warning",
    summary: "{{ $labels.instance }} ends UDP flows early to make room",
    description:
      "More clients than flows: a shorter --udp-timeout frees them sooner.",
  },
];

/** The contents of a rules file, ready for YAML. */
export function alertRules(): Record<string, unknown> {
  return {
    groups: [{
      name: "kube-portal",
      rules: ALERTS.map((alert) => ({
        alert: alert.name,
        expr: alert.expr,
        for: alert.for,
        labels: { severity: alert.severity },
        annotations: {
          summary: alert.summary,
          description: alert.description,
        },
      })),
    }],
  };
}
