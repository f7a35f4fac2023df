/**
 * `/metrics`: what the proxy counted, in Prometheus' text format. Everything is
 * read when a scraper asks and nothing is kept between two scrapes but which
 * Service ports have series of their own. The only file that imports
 * prom-client, and itself imported only once the metrics server starts.
 *
 * @module
 */
import { type Metric, Registry } from "prom-client";
import { SAMPLES, type Scrape } from "./metric_samples.ts";
import { METRIC_NAMES, METRICS, type MetricSpec } from "./metric_table.ts";
import { type CountedPort, PortSeriesLedger } from "./port_series.ts";
import type { StatusSource } from "./status_source.ts";

export interface Exposition {
  readonly contentType: string;
  readonly text: string;
}

/** The metrics of one proxy. */
export class Metrics {
  readonly #source: StatusSource;
  readonly #ledger: PortSeriesLedger;

  /** @param options.maxPortSeries Service ports with series of their own */
  constructor(
    source: StatusSource,
    options: { readonly maxPortSeries?: number } = {},
  ) {
    this.#source = source;
    this.#ledger = new PortSeriesLedger(options.maxPortSeries);
  }

  /** @param accept the scraper's header: OpenMetrics where it asks for that */
  async expose(accept: string = ""): Promise<Exposition> {
    const isOpenMetrics = accept.includes("application/openmetrics-text");
    const scrape = this.#scrape();
    // A new one each time: it holds nothing, all values are ours.
    const registry = isOpenMetrics ? openMetricsRegistry() : new Registry();
    for (const name of METRIC_NAMES) {
      const values = () => SAMPLES[name](scrape);
      const metric = { name, ...METRICS[name], values };
      registry.registerMetric(pulled(metric, isOpenMetrics));
    }
    return await written(registry);
  }

  /**
   * `/metrics/slis` (fact 7.19): how the checks of the port's own `/healthz`
   * went. There is one, `ping`, which succeeds; before it was ever asked there
   * is nothing to tell.
   *
   * @param pings how often it was asked
   */
  async exposeSlis(pings: number, accept: string = ""): Promise<Exposition> {
    const isOpenMetrics = accept.includes("application/openmetrics-text");
    const registry = isOpenMetrics ? openMetricsRegistry() : new Registry();
    const labels = { name: "ping", type: "healthz" };
    const told = (value: number, more: Record<string, string> = {}) => () =>
      pings === 0 ? [] : [{ value, labels: { ...labels, ...more } }];
    for (
      const metric of [{
        name: "kubernetes_healthcheck",
        type: "gauge" as const,
        help: "This metric records the result of a single healthcheck.",
        values: told(1),
      }, {
        name: "kubernetes_healthchecks_total",
        type: "counter" as const,
        help: "This metric records the results of all healthcheck.",
        values: told(pings, { status: "success" }),
      }]
    ) registry.registerMetric(pulled(metric, isOpenMetrics));
    return await written(registry);
  }

  #scrape(): Scrape {
    const source = this.#source;
    const ports = [...source.ports()];
    const counted: CountedPort[] = [];
    // Nobody counts what the kernel forwards: no series, rather than zeros.
    const forwarded = source.engine === "kernel"
      ? []
      : [...ports, ...source.draining()];
    for (const port of forwarded) {
      const { servicePort } = port.state;
      if (servicePort.protocol === "SCTP") continue;
      counted.push({
        source: port.forwarder,
        servicePort,
        stats: port.forwarder.stats(),
      });
    }
    return { source, ports, series: this.#ledger.update(counted) };
  }
}

async function written(registry: Registry): Promise<Exposition> {
  const { contentType } = registry;
  return { contentType, text: await registry.metrics() };
}

interface PulledMetric {
  readonly name: string;
  readonly type: MetricSpec["type"];
  readonly help: string;
  values(): unknown;
}

/**
 * A metric as the library's registry writes it. Its own classes count by
 * themselves; ours are counted already, by the engine's threads among others.
 */
function pulled(
  { name, type, help, values }: PulledMetric,
  isOpenMetrics: boolean,
): Metric {
  // The registry adds the ending to each sample of a counter again.
  const written = isOpenMetrics && type === "counter"
    ? name.replace(/_total$/, "")
    : name;
  const get = () =>
    Promise.resolve({ name: written, help, type, values: values() });
  return { name: written, type, help, get } as unknown as Metric;
}

/** The library's types know only the default format's constructor. */
function openMetricsRegistry(): Registry {
  const registry = new Registry();
  registry.setContentType(Registry.OPENMETRICS_CONTENT_TYPE as never);
  return registry;
}
