/**
 * The value of each metric, from what the proxy counted: one function for each
 * name in the table. Reads, and keeps nothing; knows no text format.
 *
 * @module
 */
import process from "node:process";
import { policiesWithoutEndpoints } from "../desired_state.ts";
import { countOf, type DistributionView } from "../distribution.ts";
import type { KernelCounts } from "../kernel_counts.ts";
import type { MetricName } from "./metric_table.ts";
import type { PortSeries } from "./port_series.ts";
import type { PortView, StatusSource } from "./status_source.ts";

type Labels = Readonly<Record<string, string>>;

export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  /** Where it is not the metric's own: `_bucket`, `_sum`, `_count`. */
  readonly metricName?: string;
}

/** Everything that one scrape needs, looked up once. */
export interface Scrape {
  readonly source: StatusSource;
  readonly ports: readonly PortView[];
  readonly series: readonly PortSeries[];
}

function one(value: number): Sample[] {
  return [{ labels: {}, value }];
}

/** The samples of a histogram: cumulative, as Prometheus has them. */
function histogram(
  name: MetricName,
  labels: Labels,
  distribution: DistributionView,
): Sample[] {
  const samples: Sample[] = [];
  let cumulative = 0;
  for (const [index, bound] of distribution.bounds.entries()) {
    cumulative += distribution.counts[index]!;
    samples.push({
      labels: { ...labels, le: String(bound) },
      value: cumulative,
      metricName: `${name}_bucket`,
    });
  }
  const count = countOf(distribution);
  return [
    ...samples,
    {
      labels: { ...labels, le: "+Inf" },
      value: count,
      metricName: `${name}_bucket`,
    },
    { labels, value: distribution.sum, metricName: `${name}_sum` },
    { labels, value: count, metricName: `${name}_count` },
  ];
}

function eachPort(
  { series }: Scrape,
  value: (series: PortSeries) => number,
): Sample[] {
  return series.map((each) => ({ labels: each.labels, value: value(each) }));
}

/** Of those that counted any: most Services are idle, and a histogram is long. */
function eachPortHistogram(
  name: MetricName,
  { series }: Scrape,
  of: (series: PortSeries) => DistributionView | undefined,
): Sample[] {
  return series.flatMap((each) => {
    const distribution = of(each);
    return distribution === undefined
      ? []
      : histogram(name, each.labels, distribution);
  });
}

/** Of kernel modes alone: elsewhere there are no families that count. */
function familyCounts({ source }: Scrape): [string, KernelCounts][] {
  return Object.entries(source.kernelCounts());
}

function eachFamily(
  scrape: Scrape,
  value: (counts: KernelCounts) => number,
): Sample[] {
  return familyCounts(scrape).map(([ip_family, counts]) => ({
    labels: { ip_family },
    value: value(counts),
  }));
}

function eachFamilyHistogram(
  name: MetricName,
  scrape: Scrape,
  of: (counts: KernelCounts) => DistributionView,
): Sample[] {
  return familyCounts(scrape).flatMap(([ip_family, counts]) =>
    histogram(name, { ip_family }, of(counts))
  );
}

function isIptables({ source }: Scrape): boolean {
  return source.mode === "iptables";
}

function isNftables({ source }: Scrape): boolean {
  return source.mode === "nftables";
}

function eachTable(
  scrape: Scrape,
  of: (counts: KernelCounts) => Readonly<Record<string, number>>,
): Sample[] {
  if (!isIptables(scrape)) return [];
  return familyCounts(scrape).flatMap(([ip_family, counts]) =>
    Object.entries(of(counts)).map(([table, value]) => ({
      labels: { table, ip_family },
      value,
    }))
  );
}

function syncTimes(
  { source }: Scrape,
  time: "updatedAt" | "requestedAt",
): Sample[] {
  return Object.entries(source.health().syncs).flatMap(
    ([ip_family, times]) => {
      const at = times[time];
      return at === undefined
        ? []
        : [{ labels: { ip_family }, value: at / 1_000 }];
    },
  );
}

function noLocalEndpoints({ ports }: Scrape): Sample[] {
  const counts = new Map<string, number>();
  for (const family of ["IPv4", "IPv6"]) {
    for (const policy of ["internal", "external"]) {
      counts.set(`${family} ${policy}`, 0);
    }
  }
  for (const { state } of ports) {
    for (const policy of policiesWithoutEndpoints(state)) {
      const key = `${state.servicePort.family} ${policy}`;
      counts.set(key, (counts.get(key) ?? 0) + 1);
    }
  }
  return [...counts].map(([key, value]) => {
    const [ip_family = "", traffic_policy = ""] = key.split(" ");
    return { labels: { ip_family, traffic_policy }, value };
  });
}

function endpointStates({ ports }: Scrape): Sample[] {
  const counts = { ready: 0, terminating: 0, not_ready: 0 };
  for (const { state } of ports) {
    for (const { ready, serving, terminating } of state.endpoints) {
      if (ready) counts.ready++;
      else if (serving && terminating) counts.terminating++;
      else counts.not_ready++;
    }
  }
  return Object.entries(counts).map(([state, value]) => ({
    labels: { state },
    value,
  }));
}

function count(things: Iterable<unknown>): number {
  let count = 0;
  for (const _ of things) count++;
  return count;
}

function sumOver(
  { ports }: Scrape,
  value: (port: PortView) => number,
): number {
  return ports.reduce((sum, port) => sum + value(port), 0);
}

function twoWays(
  { series }: Scrape,
  label: string,
  values: (series: PortSeries) => Readonly<Record<string, number>>,
): Sample[] {
  return series.flatMap((each) =>
    Object.entries(values(each)).map(([way, value]) => ({
      labels: { ...each.labels, [label]: way },
      value,
    }))
  );
}

/** Samples of every metric; an exhaustive table, so that none is forgotten. */
export const SAMPLES: Readonly<
  Record<MetricName, (scrape: Scrape) => Sample[]>
> = {
  kubeproxy_sync_proxy_rules_duration_seconds: ({ source }) =>
    // One sync serves both families, which upstream's dashboards tell apart.
    ["IPv4", "IPv6"].flatMap((ip_family) =>
      histogram(
        "kubeproxy_sync_proxy_rules_duration_seconds",
        { ip_family },
        source.counters.syncSeconds,
      )
    ),
  kubeproxy_sync_full_proxy_rules_duration_seconds: (scrape) =>
    eachFamilyHistogram(
      "kubeproxy_sync_full_proxy_rules_duration_seconds",
      scrape,
      ({ fullSeconds }) => fullSeconds,
    ),
  kubeproxy_sync_partial_proxy_rules_duration_seconds: (scrape) =>
    eachFamilyHistogram(
      "kubeproxy_sync_partial_proxy_rules_duration_seconds",
      scrape,
      ({ partialSeconds }) => partialSeconds,
    ),
  kubeproxy_sync_proxy_rules_iptables_total: (scrape) =>
    eachTable(scrape, ({ total }) => total),
  kubeproxy_sync_proxy_rules_iptables_last: (scrape) =>
    eachTable(scrape, ({ last }) => last),
  kubeproxy_sync_proxy_rules_iptables_restore_failures_total: (scrape) =>
    isIptables(scrape) ? eachFamily(scrape, ({ failures }) => failures) : [],
  kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total: (
    scrape,
  ) =>
    isIptables(scrape)
      ? eachFamily(scrape, ({ partialFailures }) => partialFailures)
      : [],
  kubeproxy_sync_proxy_rules_nftables_sync_failures_total: (scrape) =>
    isNftables(scrape) ? eachFamily(scrape, ({ failures }) => failures) : [],
  kubeproxy_sync_proxy_rules_nftables_cleanup_failures_total: (scrape) =>
    isNftables(scrape)
      ? eachFamily(scrape, ({ cleanupFailures }) => cleanupFailures)
      : [],
  kubeproxy_conntrack_reconciler_deleted_entries_total: (scrape) =>
    eachFamily(scrape, ({ flowsForgotten }) => flowsForgotten),
  kubeproxy_sync_proxy_rules_last_timestamp_seconds: (scrape) =>
    syncTimes(scrape, "updatedAt"),
  kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds: (scrape) =>
    syncTimes(scrape, "requestedAt"),
  kubeproxy_network_programming_duration_seconds: ({ source }) =>
    Object.entries(source.counters.programmingSeconds).flatMap(
      ([ip_family, distribution]) =>
        histogram(
          "kubeproxy_network_programming_duration_seconds",
          { ip_family },
          distribution,
        ),
    ),
  kubeproxy_sync_proxy_rules_endpoint_changes_pending: ({ source }) =>
    one(source.counters.endpointsPending),
  kubeproxy_sync_proxy_rules_endpoint_changes_total: ({ source }) =>
    one(source.counters.endpointChanges),
  kubeproxy_sync_proxy_rules_service_changes_pending: ({ source }) =>
    one(source.counters.servicesPending),
  kubeproxy_sync_proxy_rules_service_changes_total: ({ source }) =>
    one(source.counters.serviceChanges),
  kubeproxy_sync_proxy_rules_no_local_endpoints_total: noLocalEndpoints,
  kubeproxy_proxy_healthz_total: ({ source }) =>
    source.counters.healthAnswers("healthz"),
  kubeproxy_proxy_livez_total: ({ source }) =>
    source.counters.healthAnswers("livez"),
  rest_client_requests_total: ({ source }) => [...source.counters.requests],
  rest_client_request_duration_seconds: ({ source }) =>
    [...source.counters.requestSeconds].flatMap(({ labels, distribution }) =>
      histogram("rest_client_request_duration_seconds", labels, distribution)
    ),
  process_start_time_seconds: ({ source }) => one(source.startedAt / 1_000),
  process_cpu_seconds_total: () => {
    const { user, system } = process.cpuUsage();
    return one((user + system) / 1e6);
  },
  process_resident_memory_bytes: () => one(Deno.memoryUsage().rss),
  kube_portal_build_info: ({ source }) => [{
    labels: {
      version: source.version,
      deno_version: Deno.version.deno,
      engine: source.engine,
      steering: source.steering()?.name ?? "",
    },
    value: 1,
  }],
  kube_portal_services: ({ source }) => one(source.services().size),
  kube_portal_service_ports: ({ ports }) => one(ports.length),
  kube_portal_listeners: (scrape) =>
    one(sumOver(scrape, (port) => count(port.bindings))),
  kube_portal_unserved_addresses: (scrape) =>
    one(
      sumOver(scrape, (port) => count(port.failures)) +
        (scrape.source.steering()?.failures.size ?? 0),
    ),
  kube_portal_endpoints: endpointStates,
  kube_portal_watch_up: ({ source }) =>
    Object.entries(source.sources()).map(([resource, { phase }]) => ({
      labels: { resource },
      value: phase === "waiting" ? 0 : 1,
    })),
  kube_portal_connections_open: (scrape) =>
    eachPort(ofProtocol(scrape, "TCP"), ({ open }) => open),
  kube_portal_connections_total: (scrape) =>
    eachPort(scrape, ({ totals }) => totals.connections),
  kube_portal_connections_failed_total: (scrape) =>
    eachPort(scrape, ({ totals }) => totals.failed),
  kube_portal_connections_refused_total: (scrape) =>
    eachPort(scrape, ({ totals }) => totals.refused),
  kube_portal_bytes_total: (scrape) =>
    twoWays(scrape, "direction", ({ totals }) => ({
      to_endpoint: totals.bytesToEndpoints,
      to_client: totals.bytesToClients,
    })),
  kube_portal_dial_failures_total: (scrape) =>
    twoWays(scrape, "reason", ({ totals }) => ({
      refused: totals.dialRefusals,
      timeout: totals.dialTimeouts,
    })),
  kube_portal_endpoints_ejected: (scrape) =>
    eachPort(ofProtocol(scrape, "TCP"), ({ ejected }) => ejected),
  kube_portal_dial_duration_seconds: (scrape) =>
    eachPortHistogram(
      "kube_portal_dial_duration_seconds",
      scrape,
      ({ totals }) => totals.dialSeconds,
    ),
  kube_portal_connection_duration_seconds: (scrape) =>
    eachPortHistogram(
      "kube_portal_connection_duration_seconds",
      scrape,
      ({ totals }) => totals.connectionSeconds,
    ),
  kube_portal_affinity_entries: (scrape) =>
    eachPort(scrape, ({ affinityEntries }) => affinityEntries),
  kube_portal_udp_flows_open: (scrape) =>
    eachPort(ofProtocol(scrape, "UDP"), ({ open }) => open),
  kube_portal_udp_flows_evicted_total: (scrape) =>
    eachPort(ofProtocol(scrape, "UDP"), ({ totals }) => totals.flowsEvicted),
  kube_portal_udp_datagrams_dropped_total: (scrape) =>
    eachPort(
      ofProtocol(scrape, "UDP"),
      ({ totals }) => totals.datagramsDropped,
    ),
};

function ofProtocol(scrape: Scrape, protocol: "TCP" | "UDP"): Scrape {
  const isUdp = protocol === "UDP";
  return {
    ...scrape,
    series: scrape.series.filter((each) => each.isUdp === isUdp),
  };
}
