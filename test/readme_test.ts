/** README's tables are held to what the program says of itself. */
import assert from "node:assert/strict";
import { METRIC_NAMES, METRICS } from "../proxy/status/metric_table.ts";
import { PORT_SERIES_MAX } from "../proxy/status/port_series.ts";

const readme = Deno.readTextFileSync(new URL("../README.md", import.meta.url));

/** Rows of tables whose first cell is a metric's name. */
function metricRows(): string[][] {
  return readme.split("\n").filter((line) =>
    /^\| `(kubeproxy|kube_portal|rest_client|process)_/.test(line)
  ).map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim().replaceAll("`", ""))
  );
}

Deno.test("README's table of metrics is the program's", () => {
  const port = METRICS.kube_portal_connections_total.labels.join(", ");
  const want = METRIC_NAMES.map((name) => {
    const { type, labels, help } = METRICS[name];
    const text = labels.join(", ").replace(port, "Service port");
    return [name, type, text, help];
  });
  assert.deepEqual(metricRows(), want);
  assert.ok(readme.includes(`At most ${PORT_SERIES_MAX} Service ports`));
});
