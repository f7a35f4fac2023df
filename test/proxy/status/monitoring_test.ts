import assert from "node:assert/strict";
import { alertRules } from "../../../proxy/status/alerts.ts";
import { grafanaDashboard } from "../../../proxy/status/grafana.ts";
import { METRIC_NAMES, METRICS } from "../../../proxy/status/metric_table.ts";
import { Metrics } from "../../../proxy/status/metrics.ts";
import { FakeSource } from "../../support/status_source.ts";

/** Words of a text that look like names of metrics. */
function metricsNamedIn(text: string): string[] {
  const names = text.matchAll(
    /\b(?:kubeproxy|kube_portal|rest_client|process)_\w+/g,
  );
  return [...new Set([...names].map(([name]) => name))];
}

function isKnown(name: string): boolean {
  const base = METRIC_NAMES.find((known) => known === name) ??
    METRIC_NAMES.find((known) =>
      METRICS[known].type === "histogram" &&
      [`${known}_bucket`, `${known}_sum`, `${known}_count`].includes(name)
    );
  return base !== undefined;
}

const texts = {
  "the Grafana dashboard": JSON.stringify(grafanaDashboard()),
  "the alert rules": JSON.stringify(alertRules()),
};

for (const [what, text] of Object.entries(texts)) {
  Deno.test(`${what} asks for metrics that /metrics has`, async () => {
    const named = metricsNamedIn(text);
    assert.ok(named.length > 5);
    assert.deepEqual(named.filter((name) => !isKnown(name)), []);
    const exposed = (await new Metrics(new FakeSource()).expose()).text;
    for (const name of named) {
      const base = name.replace(/_(bucket|sum|count)$/, "");
      assert.ok(exposed.includes(`# TYPE ${base} `), name);
    }
  });

  Deno.test(`${what} asks by labels that the metrics have`, () => {
    const selectors = text.replaceAll('\\"', '"').matchAll(/(\w+)\{([^}]*)\}/g);
    for (const [, name = "", list = ""] of selectors) {
      if (!isKnown(name)) continue;
      const base = METRIC_NAMES.find((known) =>
        known === name || `${known}_bucket` === name
      )!;
      for (const [, label = ""] of list.matchAll(/(\w+)=~?"/g)) {
        if (label === "instance") continue;
        assert.ok(METRICS[base].labels.includes(label), `${name} ${label}`);
      }
    }
  });
}

Deno.test("every alert says what is wrong and what to do", () => {
  const { groups } = alertRules() as {
    groups: { rules: Record<string, Record<string, string> | string>[] }[];
  };
  for (const { rules } of groups) {
    for (const { alert, annotations, expr } of rules) {
      assert.match(String(alert), /^KubePortal[A-Z]/);
      assert.ok(String(expr).length > 0);
      const { summary, description } = annotations as Record<string, string>;
      assert.ok(summary && description, String(alert));
    }
  }
});
