import assert from "node:assert/strict";
import { linePlot } from "./lines.ts";
import {
  growthSentences,
  merged,
  type ModeSeries,
  modeTables,
  oneSeries,
} from "./series.ts";
import {
  changedSlice,
  newService,
  serviceAddress,
  servicesTo,
} from "./services.ts";

function connect(
  mode: string,
  services: number,
  ...values: number[]
): ModeSeries {
  return oneSeries({ mode, services, metric: "connection, p50", values });
}

function change(mode: string, services: number, value: number): ModeSeries {
  return oneSeries({
    mode,
    services,
    metric: "changed endpoint",
    values: [value],
  });
}

const MEASURED = [
  connect("direct", 1, 100, 50),
  connect("direct", 1_000, 110, 100),
  connect("iptables", 1_000, 330, 300),
  connect("iptables", 1, 150, 75),
  change("iptables", 1, 10),
  change("iptables", 1_000, 25),
];

Deno.test("oneSeries() refuses a metric that no table has", () => {
  assert.throws(
    () => oneSeries({ mode: "splice", services: 1, metric: "x", values: [] }),
    /No metric "x"/,
  );
});

Deno.test("modeTables() compares with a direct connection at the same size", () => {
  const text = modeTables(MEASURED);
  assert.match(text, /### connection, p50, µs \(lower is better\)/);
  assert.match(text, /\| +1 \| +75 \| 113 \(1\.50 ×\) \|\n/);
  assert.match(text, /\| +1,000 \| +105 \| 315 \(3\.00 ×\) \|\n/);
});

Deno.test("modeTables() leaves open what was not measured, and has no ratio without direct", () => {
  const text = modeTables([
    connect("splice", 1, 200),
    connect("iptables", 10, 300),
  ]);
  assert.match(text, /\| +1 \| +200 \| +\|\n/);
  assert.match(text, /\| +10 \| +\| +300 \|\n/);
});

Deno.test("growthSentences() says what the largest size costs more", () => {
  assert.deepEqual(growthSentences(MEASURED), [
    "iptables: with 1,000 Services a connection takes 2.8 × what it takes " +
    "with 1, a changed endpoint 2.5 ×",
  ]);
  assert.deepEqual(growthSentences([connect("splice", 1, 200)]), []);
});

Deno.test("merged() replaces what was measured again, and keeps the rest in order", () => {
  const before = [connect("iptables", 1, 1), connect("splice", 100, 2)];
  const now = [connect("iptables", 1, 3), connect("direct", 1, 4)];
  assert.deepEqual(
    merged(before, now).map(({ subject, values }) => [subject, ...values]),
    [["direct, 1", 4], ["splice, 100", 2], ["iptables, 1", 3]],
  );
});

Deno.test("linePlot() draws a line for each mode, and a point for each size", () => {
  const text = linePlot("A & B", MEASURED);
  assert.match(text, /^<svg [^>]+>/);
  assert.match(text, /A &amp; B/);
  assert.equal(text.match(/<circle /g)?.length, MEASURED.length);
  assert.equal(text.match(/stroke-width='2'/g)?.length, 3);
  assert.doesNotMatch(text, /NaN|Infinity/);
});

Deno.test("linePlot() has room for one size and one value", () => {
  const text = linePlot("one", [connect("splice", 100, 5)]);
  assert.doesNotMatch(text, /NaN|Infinity/);
});

Deno.test("servicesTo() gives each Service an address and one endpoint in turn", () => {
  const endpoints = [
    { ip: "10.244.0.1", port: 1 },
    { ip: "10.244.0.2", port: 2 },
  ];
  const objects = servicesTo(endpoints, 10_000);
  assert.equal(objects.length, 20_000);
  assert.equal(serviceAddress(0).ip, "10.96.1.1");
  assert.equal(serviceAddress(9_999).ip, "10.96.40.250");
  const ips = new Set(
    objects.flatMap(({ spec }) =>
      spec === undefined ? [] : [(spec as { clusterIP: string }).clusterIP]
    ),
  );
  assert.equal(ips.size, 10_000);
  assert.deepEqual(objects[3], changedSlice(1, endpoints[1]!));
  const [added] = newService(0, endpoints[0]!);
  assert.ok(!ips.has((added!["spec"] as { clusterIP: string }).clusterIP));
});
