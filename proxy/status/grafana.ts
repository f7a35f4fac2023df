/**
 * A Grafana dashboard for `/metrics`, as data. Every metric is named through
 * the table's type, so that one that is renamed cannot stay behind here.
 *
 * @module
 */
import type { MetricName } from "./metric_table.ts";

/** Of the nodes and Services that are chosen at the top of the dashboard. */
const CHOSEN = 'instance=~"$instance"';
const SERVICE = `${CHOSEN}, service_namespace=~"$namespace"`;
/** What Grafana replaces by an interval that fits the resolution. */
const RANGE = "[$__rate_interval]";

interface Query {
  readonly expr: string;
  readonly legend: string;
}

interface Panel {
  readonly title: string;
  readonly description: string;
  /** Grafana's name: `short`, `Bps`, `s`, `cps`. */
  readonly unit: string;
  readonly queries: readonly Query[];
  readonly type?: "timeseries" | "stat";
}

function sumBy(labels: string, inner: string): string {
  return `sum by (${labels}) (${inner})`;
}

function perSecond(name: MetricName, labels: string): string {
  return `rate(${name}{${labels}}${RANGE})`;
}

function quantile(
  q: number,
  name: MetricName,
  { labels, by }: { labels: string; by: string },
): string {
  return `histogram_quantile(${q}, ` +
    `${sumBy(`le, ${by}`, `rate(${name}_bucket{${labels}}${RANGE})`)})`;
}

function gauge(name: MetricName, labels: string): string {
  return `${name}{${labels}}`;
}

const BY_SERVICE = "service_namespace, service_name, service_port";
const SERVICE_NAME = "{{service_namespace}}/{{service_name}}:{{service_port}}";

/** Ten busiest: a cluster has more Services than a plot can show. */
function busiest(inner: string): string {
  return `topk(10, ${sumBy(BY_SERVICE, inner)})`;
}

const PANELS: readonly Panel[] = [
  {
    title: "Not served",
    description: "Addresses that should be listened on and are not",
    unit: "short",
    type: "stat",
    queries: [{
      expr: `sum(${gauge("kube_portal_unserved_addresses", CHOSEN)})`,
      legend: "addresses",
    }],
  },
  {
    title: "Services",
    description: "Services that are served",
    unit: "short",
    type: "stat",
    queries: [{
      expr: `max(${gauge("kube_portal_services", CHOSEN)})`,
      legend: "Services",
    }],
  },
  {
    title: "Open connections",
    description: "TCP connections and UDP flows that are open now",
    unit: "short",
    queries: [
      {
        expr: sumBy(
          "instance",
          gauge("kube_portal_connections_open", SERVICE),
        ),
        legend: "{{instance}} TCP",
      },
      {
        expr: sumBy("instance", gauge("kube_portal_udp_flows_open", SERVICE)),
        legend: "{{instance}} UDP",
      },
    ],
  },
  {
    title: "New connections, ten busiest Services",
    description: "Connections accepted per second; of UDP, flows",
    unit: "cps",
    queries: [{
      expr: busiest(perSecond("kube_portal_connections_total", SERVICE)),
      legend: SERVICE_NAME,
    }],
  },
  {
    title: "Bytes, ten busiest Services",
    description: "Forwarded per second, both ways",
    unit: "Bps",
    queries: [{
      expr: busiest(perSecond("kube_portal_bytes_total", SERVICE)),
      legend: SERVICE_NAME,
    }],
  },
  {
    title: "What went wrong",
    description: "Per second: no endpoint reached, turned away, failed dials",
    unit: "cps",
    queries: [
      {
        expr: busiest(
          perSecond("kube_portal_connections_failed_total", SERVICE),
        ),
        legend: `failed ${SERVICE_NAME}`,
      },
      {
        expr: busiest(
          perSecond("kube_portal_connections_refused_total", SERVICE),
        ),
        legend: `turned away ${SERVICE_NAME}`,
      },
      {
        expr: sumBy(
          "reason",
          perSecond("kube_portal_dial_failures_total", SERVICE),
        ),
        legend: "dials: {{reason}}",
      },
      {
        expr: sumBy(
          "instance",
          gauge("kube_portal_endpoints_ejected", SERVICE),
        ),
        legend: "endpoints ejected by {{instance}}",
      },
    ],
  },
  {
    title: "Time to an endpoint",
    description: "From a client's arrival until an endpoint had answered",
    unit: "s",
    queries: [0.5, 0.99].map((q) => ({
      expr: quantile(q, "kube_portal_dial_duration_seconds", {
        labels: SERVICE,
        by: "instance",
      }),
      legend: `{{instance}} ${q * 100} %`,
    })),
  },
  {
    title: "How long connections last",
    description: "Of those that ended",
    unit: "s",
    queries: [0.5, 0.99].map((q) => ({
      expr: quantile(q, "kube_portal_connection_duration_seconds", {
        labels: SERVICE,
        by: "instance",
      }),
      legend: `{{instance}} ${q * 100} %`,
    })),
  },
  {
    title: "From a change to its effect",
    description: "Of endpoints in the cluster, 99 %",
    unit: "s",
    queries: [{
      expr: quantile(0.99, "kubeproxy_network_programming_duration_seconds", {
        labels: CHOSEN,
        by: "instance",
      }),
      legend: "{{instance}}",
    }],
  },
  {
    title: "Syncs",
    description: "How long they take (99 %), and since when there was none",
    unit: "s",
    queries: [
      {
        expr: quantile(0.99, "kubeproxy_sync_proxy_rules_duration_seconds", {
          labels: CHOSEN,
          by: "instance",
        }),
        legend: "{{instance}} duration",
      },
      {
        expr: `time() - ${
          gauge("kubeproxy_sync_proxy_rules_last_timestamp_seconds", CHOSEN)
        }`,
        legend: "{{instance}} {{ip_family}} age of the last",
      },
    ],
  },
  {
    title: "API server",
    description: "Requests per second by their answer",
    unit: "reqps",
    queries: [{
      expr: sumBy("code", perSecond("rest_client_requests_total", CHOSEN)),
      legend: "{{code}}",
    }],
  },
  {
    title: "Process",
    description: "CPU cores",
    unit: "short",
    queries: [{
      expr: perSecond("process_cpu_seconds_total", CHOSEN),
      legend: "{{instance}}",
    }],
  },
];

const DATASOURCE = { type: "prometheus", uid: "${datasource}" };
const COLUMNS = 2;
const WIDTH = 24 / COLUMNS;
const HEIGHT = 8;

/** Ready for JSON, and for Grafana's "Import". */
export function grafanaDashboard(): Record<string, unknown> {
  return {
    title: "kube-portal",
    uid: "kube-portal",
    tags: ["kubernetes", "kube-proxy"],
    schemaVersion: 39,
    editable: true,
    refresh: "30s",
    time: { from: "now-1h", to: "now" },
    templating: { list: variables() },
    panels: PANELS.map(panel),
  };
}

function variables(): Record<string, unknown>[] {
  const query = (name: string, of: MetricName, label: string) => ({
    name,
    type: "query",
    datasource: DATASOURCE,
    query: `label_values(${of}, ${label})`,
    refresh: 2,
    multi: true,
    includeAll: true,
    allValue: ".*",
    current: { text: "All", value: "$__all" },
  });
  return [
    { name: "datasource", type: "datasource", query: "prometheus" },
    query("instance", "kube_portal_build_info", "instance"),
    query("namespace", "kube_portal_connections_total", "service_namespace"),
  ];
}

function panel(
  { title, description, unit, queries, type = "timeseries" }: Panel,
  index: number,
): Record<string, unknown> {
  return {
    id: index + 1,
    title,
    description,
    type,
    datasource: DATASOURCE,
    gridPos: {
      x: (index % COLUMNS) * WIDTH,
      y: Math.floor(index / COLUMNS) * HEIGHT,
      w: WIDTH,
      h: HEIGHT,
    },
    fieldConfig: { defaults: { unit, min: 0 }, overrides: [] },
    targets: queries.map(({ expr, legend }, query) => ({
      refId: String.fromCharCode("A".charCodeAt(0) + query),
      datasource: DATASOURCE,
      expr,
      legendFormat: legend,
    })),
  };
}
