import assert from "node:assert/strict";
import { Distribution } from "../../../proxy/distribution.ts";
import {
  OTHER,
  type PortSeries,
  PortSeriesLedger,
} from "../../../proxy/status/port_series.ts";
import { service } from "../../support/objects.ts";
import { type FakePort, FakeSource } from "../../support/status_source.ts";

function counted(ports: Iterable<FakePort>) {
  return [...ports].map((port) => ({
    source: port.forwarder,
    servicePort: port.state.servicePort,
    stats: port.stats,
  }));
}

/** Service name → connections. */
function connections(series: readonly PortSeries[]): Record<string, number> {
  return Object.fromEntries(
    series.map(({ labels, totals }) => [
      labels.service_name ?? "",
      totals.connections,
    ]),
  );
}

function withServices(...names: string[]): FakeSource {
  const source = new FakeSource();
  for (const [index, name] of names.entries()) {
    const [port] = source.set(
      service(`ns/${name}`, { clusterIP: `10.96.0.${index + 1}` }),
    );
    port?.count({ connectionsTotal: index + 1 });
  }
  return source;
}

Deno.test("PortSeriesLedger gives the first Service ports series of their own and adds up the rest", () => {
  const source = withServices("a", "b", "c", "d");
  const ledger = new PortSeriesLedger(2);
  const series = ledger.update(counted(source.ports()));
  assert.deepEqual(connections(series), { a: 1, b: 2, [OTHER]: 7 });
  assert.deepEqual(series[0]?.labels, {
    service_namespace: "ns",
    service_name: "a",
    service_port: "80",
    protocol: "TCP",
    ip_family: "IPv4",
  });
});

Deno.test("PortSeriesLedger drops the series of a Service that went, and its place is free", () => {
  const source = withServices("a", "b", "c");
  const ledger = new PortSeriesLedger(2);
  ledger.update(counted(source.ports()));
  source.remove("ns/a");
  assert.deepEqual(connections(ledger.update(counted(source.ports()))), {
    b: 2,
    [OTHER]: 3,
  });
  source.set(service("ns/e", { clusterIP: "10.96.0.9" }));
  assert.deepEqual(connections(ledger.update(counted(source.ports()))), {
    b: 2,
    e: 0,
    [OTHER]: 3,
  });
});

Deno.test("PortSeriesLedger never lets the sum of the rest go back", () => {
  const source = withServices("a", "b", "c");
  const ledger = new PortSeriesLedger(1);
  ledger.update(counted(source.ports()));
  source.remove("ns/c");
  assert.deepEqual(connections(ledger.update(counted(source.ports()))), {
    a: 1,
    [OTHER]: 5,
  });
});

Deno.test("PortSeriesLedger goes on counting for a Service port made anew while the old one drains", () => {
  const source = withServices("a");
  const ledger = new PortSeriesLedger();
  const old = [...source.ports()];
  const dialSeconds = new Distribution([1]);
  dialSeconds.observe(0.5);
  old[0]?.count({ dialSeconds, connectionsOpen: 1 });
  ledger.update(counted(old));
  source.remove("ns/a");
  const [anew] = source.set(service("ns/a"));
  anew?.count({ connectionsTotal: 10, dialSeconds, connectionsOpen: 2 });
  const [both] = ledger.update(counted([...source.ports(), ...old]));
  assert.equal(both?.totals.connections, 11);
  assert.equal(both?.open, 3);
  const [after] = ledger.update(counted(source.ports()));
  assert.equal(after?.totals.connections, 11);
  assert.deepEqual([...after?.totals.dialSeconds?.counts ?? []], [2, 0]);
  assert.equal(after?.open, 2);
});
