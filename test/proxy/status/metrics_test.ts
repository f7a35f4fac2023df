import assert from "node:assert/strict";
import { Distribution } from "../../../proxy/distribution.ts";
import {
  DIAL_BOUNDS_S,
  type EndpointStats,
} from "../../../proxy/engine/engine.ts";
import { KernelCounts } from "../../../proxy/kernel_counts.ts";
import { METRIC_NAMES, METRICS } from "../../../proxy/status/metric_table.ts";
import { Metrics } from "../../../proxy/status/metrics.ts";
import { service, slice } from "../../support/objects.ts";
import { FakeSource, samples } from "../../support/status_source.ts";

async function scrape(source: FakeSource): Promise<Map<string, number>> {
  return samples((await new Metrics(source).expose()).text);
}

Deno.test("[7.18] Metrics.expose() names every metric of the table with its type and help", async () => {
  const { contentType, text } = await new Metrics(new FakeSource()).expose();
  assert.equal(contentType, "text/plain; version=0.0.4; charset=utf-8");
  for (const name of METRIC_NAMES) {
    const { type, help } = METRICS[name];
    assert.ok(text.includes(`# HELP ${name} ${help}\n`), name);
    assert.ok(text.includes(`# TYPE ${name} ${type}\n`), name);
  }
});

Deno.test("[7.18] Metrics.expose() writes OpenMetrics for who asks for it", async () => {
  const source = new FakeSource();
  source.counters.servicesChanged(["ns/a"]);
  const { contentType, text } = await new Metrics(source).expose(
    "application/openmetrics-text;version=1.0.0,text/plain;q=0.5",
  );
  assert.match(contentType, /^application\/openmetrics-text/);
  assert.match(
    text,
    /^# TYPE kubeproxy_sync_proxy_rules_service_changes counter$/m,
  );
  assert.match(text, /^kubeproxy_sync_proxy_rules_service_changes_total 1$/m);
  assert.match(text, /# EOF\n$/);
});

Deno.test("[7.26, 7.31] Metrics has upstream's buckets", async () => {
  const text = (await new Metrics(new FakeSource()).expose()).text;
  const bounds = (name: string) =>
    [...text.matchAll(
      new RegExp(`^${name}_bucket{ip_family="IPv4",le="([^"]+)"}`, "gm"),
    )].map(([, le]) => Number(le));
  const sync = bounds("kubeproxy_sync_proxy_rules_duration_seconds");
  assert.equal(sync.length, 16);
  assert.deepEqual([sync[0], sync[1], sync.at(-2)], [0.001, 0.002, 16.384]);
  const programming = bounds("kubeproxy_network_programming_duration_seconds");
  assert.deepEqual(programming.slice(0, 4), [0.25, 0.5, 1, 2]);
  for (const bound of [59, 60, 65, 115, 120, 150, 300]) {
    assert.ok(programming.includes(bound), String(bound));
  }
  assert.equal(programming.length, 2 + 59 + 12 + 7 + 1);
});

Deno.test("[7.14, 7.29, 7.30, 7.32, 7.33, 7.34, 7.35, 7.37, 7.48] Metrics tells what was counted, by kube-proxy's names", async () => {
  const source = new FakeSource();
  const { counters } = source;
  counters.servicesChanged(["ns/a", "ns/b"]);
  counters.slicesChanged(["ns/a-1"]);
  counters.changesTaken();
  counters.slicesChanged(["ns/a-1", "ns/a-1", "ns/b-1"]);
  counters.synced(3);
  counters.programmed([{ family: "IPv6", at: source.now - 400 }], source.now);
  counters.healthAnswered("healthz", 200);
  counters.healthAnswered("healthz", 503);
  counters.healthAnswered("livez", 200);
  counters.healthAnswered("livez", 200);
  const request = { method: "GET", host: "k8s:6443", code: "200", seconds: 1 };
  counters.requested(request);
  counters.requested({ ...request, code: "<error>", seconds: 70 });
  const found = await scrape(source);
  const want: Record<string, number> = {
    kubeproxy_sync_proxy_rules_service_changes_total: 2,
    kubeproxy_sync_proxy_rules_service_changes_pending: 0,
    kubeproxy_sync_proxy_rules_endpoint_changes_total: 4,
    kubeproxy_sync_proxy_rules_endpoint_changes_pending: 2,
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.002"}':
      0,
    'kubeproxy_sync_proxy_rules_duration_seconds_bucket{ip_family="IPv4",le="0.004"}':
      1,
    'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}':
      source.now / 1e3 - 1,
    'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv6"}':
      source.now / 1e3 - 2,
    'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv6"}': 1,
    'kubeproxy_network_programming_duration_seconds_bucket{ip_family="IPv6",le="0.5"}':
      1,
    'kubeproxy_proxy_healthz_total{code="200"}': 1,
    'kubeproxy_proxy_healthz_total{code="503"}': 1,
    'kubeproxy_proxy_livez_total{code="200"}': 2,
    'rest_client_requests_total{code="200",method="GET",host="k8s:6443"}': 1,
    'rest_client_requests_total{code="<error>",method="GET",host="k8s:6443"}':
      1,
    'rest_client_request_duration_seconds_bucket{verb="GET",host="k8s:6443",le="1"}':
      1,
    'rest_client_request_duration_seconds_count{verb="GET",host="k8s:6443"}': 2,
    process_start_time_seconds: source.startedAt / 1_000,
  };
  for (const [name, value] of Object.entries(want)) {
    assert.equal(found.get(name), value, name);
  }
  assert.ok((found.get("process_cpu_seconds_total") ?? 0) > 0);
  assert.ok((found.get("process_resident_memory_bytes") ?? 0) > 1e6);
});

Deno.test("[7.36] Metrics counts Service ports that a policy Local leaves without endpoints", async () => {
  const source = new FakeSource();
  source.set(
    service("ns/a", { internalTrafficPolicy: "Local" }),
    [slice("ns/a-1", { endpoints: [{ ip: "10.0.0.1", nodeName: "other" }] })],
  );
  const name = "kubeproxy_sync_proxy_rules_no_local_endpoints_total";
  const found = await scrape(source);
  assert.equal(
    found.get(`${name}{ip_family="IPv4",traffic_policy="internal"}`),
    1,
  );
  assert.equal(
    found.get(`${name}{ip_family="IPv6",traffic_policy="external"}`),
    0,
  );
});

const NO_CONNECTIONS = {
  connectionsOpen: 0,
  connectionsTotal: 0,
  dialFailures: 0,
};

Deno.test("Metrics tells of each Service port what its engine counted", async () => {
  const source = new FakeSource();
  const [tcp, udp] = source.set(service("ns/a", {
    ports: [
      { name: "web", port: 80 },
      { name: "dns", port: 53, protocol: "UDP" },
    ],
  }));
  const dialSeconds = new Distribution(DIAL_BOUNDS_S);
  dialSeconds.observe(0.002);
  tcp?.count({
    connectionsOpen: 2,
    connectionsTotal: 5,
    connectionsFailed: 1,
    connectionsRefused: 3,
    dialFailures: 7,
    dialTimeouts: 4,
    bytesToEndpoints: 100,
    bytesToClients: 200,
    affinityEntries: 6,
    dialSeconds,
    endpoints: new Map<string, EndpointStats>([
      ["10.0.0.1:80", { ...NO_CONNECTIONS, ejectedUntil: 1 }],
      ["10.0.0.2:80", NO_CONNECTIONS],
    ]),
  });
  udp?.count({ connectionsOpen: 1, flowsEvicted: 2, datagramsDropped: 3 });
  const found = await scrape(source);
  const labels = (port: string, protocol: string, more = "") =>
    `{service_namespace="ns",service_name="a",service_port="${port}",protocol="${protocol}",ip_family="IPv4"${more}}`;
  const web = (more = "") => labels("web", "TCP", more);
  const dns = labels("dns", "UDP");
  const want: Record<string, number | undefined> = {
    [`kube_portal_connections_open${web()}`]: 2,
    [`kube_portal_connections_total${web()}`]: 5,
    [`kube_portal_connections_failed_total${web()}`]: 1,
    [`kube_portal_connections_refused_total${web()}`]: 3,
    [`kube_portal_dial_failures_total${web(',reason="refused"')}`]: 3,
    [`kube_portal_dial_failures_total${web(',reason="timeout"')}`]: 4,
    [`kube_portal_bytes_total${web(',direction="to_endpoint"')}`]: 100,
    [`kube_portal_bytes_total${web(',direction="to_client"')}`]: 200,
    [`kube_portal_affinity_entries${web()}`]: 6,
    [`kube_portal_endpoints_ejected${web()}`]: 1,
    [`kube_portal_endpoints_ejected${dns}`]: undefined,
    [`kube_portal_dial_duration_seconds_bucket${web(',le="0.001"')}`]: 0,
    [`kube_portal_dial_duration_seconds_bucket${web(',le="0.0025"')}`]: 1,
    [`kube_portal_dial_duration_seconds_count${web()}`]: 1,
    // Nothing was counted: no series.
    [`kube_portal_connection_duration_seconds_count${web()}`]: undefined,
    [`kube_portal_connections_open${dns}`]: undefined,
    [`kube_portal_udp_flows_open${dns}`]: 1,
    [`kube_portal_udp_flows_evicted_total${dns}`]: 2,
    [`kube_portal_udp_datagrams_dropped_total${dns}`]: 3,
  };
  for (const [name, value] of Object.entries(want)) {
    assert.equal(found.get(name), value, name);
  }
});

Deno.test("Metrics stays small however many Services there are, and escapes what it shows", async () => {
  const source = new FakeSource();
  for (let index = 0; index < 2_000; index++) {
    source.set(service(`ns/s${index}`));
  }
  source.phases = { 'ser"vices\n': { phase: "waiting" } };
  const metrics = new Metrics(source, { maxPortSeries: 50 });
  const { text } = await metrics.expose();
  const found = samples(text);
  assert.ok(found.size < 50 * 12 + 400, String(found.size));
  assert.equal(found.get("kube_portal_service_ports"), 2_000);
  assert.equal(found.get('kube_portal_watch_up{resource="ser\\"vices\\n"}'), 0);
});

Deno.test("every metric has labels that its samples have, in the table", async () => {
  const source = new FakeSource();
  source.set(service("ns/a"));
  source.counters.healthAnswered("healthz", 200);
  const { text } = await new Metrics(source).expose();
  for (const sample of samples(text).keys()) {
    const [, full = "", list = ""] = /^(\w+)(?:\{(.*)\})?$/.exec(sample) ?? [];
    const name = METRIC_NAMES.find((name) => name === full) ??
      METRIC_NAMES.find((name) =>
        METRICS[name].type === "histogram" && full.startsWith(name)
      );
    assert.ok(name !== undefined, sample);
    const labels = [...list.matchAll(/(\w+)="/g)].map(([, label]) => label)
      .filter((label) => label !== "le");
    assert.deepEqual(labels.toSorted(), [...METRICS[name].labels].sort());
  }
});

Deno.test("[7.19] exposeSlis() writes what Kubernetes' components do, and nothing before anybody asked", async () => {
  const metrics = new Metrics(new FakeSource());
  const { text } = await metrics.exposeSlis(3);
  assert.deepEqual([...samples(text)], [
    ['kubernetes_healthcheck{name="ping",type="healthz"}', 1],
    [
      'kubernetes_healthchecks_total{name="ping",type="healthz",status="success"}',
      3,
    ],
  ]);
  assert.match(text, /^# TYPE kubernetes_healthchecks_total counter$/m);
  assert.equal(samples((await metrics.exposeSlis(0)).text).size, 0);
});

Deno.test("[7.27, 7.28, 7.38, 7.39, 7.40, 7.41, 7.42, 7.43, 7.47] a kernel mode counts its writes, by family", async () => {
  const source = new FakeSource();
  const none = samples((await new Metrics(source).expose()).text);
  const isKernel = (name: string) =>
    /_iptables_|_nftables_|_full_|_partial_|_reconciler_/.test(name);
  assert.deepEqual([...none.keys()].filter(isKernel), []);
  const counts = new KernelCounts();
  counts.fullSeconds.observe(0.1);
  counts.total = { filter: 3, nat: 9 };
  counts.last = { filter: 3, nat: 5 };
  counts.failures = 2;
  counts.partialFailures = 1;
  counts.flowsForgotten = 4;
  source.mode = "iptables";
  source.kernel = { IPv4: counts };
  const all = samples((await new Metrics(source).expose()).text);
  const sync = "kubeproxy_sync_proxy_rules_iptables";
  const family = 'ip_family="IPv4"';
  for (
    const [name, value] of [
      [`${sync}_total{table="nat",${family}}`, 9],
      [`${sync}_last{table="nat",${family}}`, 5],
      [`${sync}_restore_failures_total{${family}}`, 2],
      [`${sync}_partial_restore_failures_total{${family}}`, 1],
      [`kubeproxy_conntrack_reconciler_deleted_entries_total{${family}}`, 4],
      [
        `kubeproxy_sync_full_proxy_rules_duration_seconds_count{${family}}`,
        1,
      ],
    ] as const
  ) assert.equal(all.get(name), value, name);
  counts.cleanupFailures = 3;
  source.mode = "nftables";
  const nft = samples((await new Metrics(source).expose()).text);
  const nftSync = "kubeproxy_sync_proxy_rules_nftables";
  assert.equal(nft.get(`${nftSync}_sync_failures_total{${family}}`), 2);
  assert.equal(nft.get(`${nftSync}_cleanup_failures_total{${family}}`), 3);
  assert.equal(nft.get(`${sync}_restore_failures_total{${family}}`), undefined);
});

Deno.test("Metrics has no series of Service ports that the kernel forwards, rather than zeros", async () => {
  const source = new FakeSource();
  source.engine = "kernel";
  source.set(service("default/web", { clusterIP: "10.96.0.10" }));
  const { text } = await new Metrics(source).expose();
  assert.doesNotMatch(text, /service_name="web"/);
});
