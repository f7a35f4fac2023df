/**
 * The metrics server, wired: loads what it needs (a library for the text
 * format, the pages) only now, and keeps trying for its address.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../../watch/mod.ts";
import { formatHostPort } from "../ip.ts";
import type { HttpServer } from "../status/http_server.ts";
import type { StatusSource } from "../status/status_source.ts";
import { type BindAddress, serveHttp } from "./addresses.ts";
import { VERSION } from "./version.ts";
import type { RunningProxy } from "./start_proxy.ts";

const logger = getLogger("status");

/** Upstream's pause between two attempts to have the address (fact 7.23). */
const RETRY_MS = 5_000;

type Handler = (request: Request) => Response | Promise<Response>;

export interface StatusOptions {
  readonly proxy: RunningProxy;
  /** A KubeProxyConfiguration, ready for JSON. */
  configz(): Readonly<Record<string, unknown>>;
}

/** What the metrics port answers. */
export async function loadMetricsHandler(
  options: StatusOptions,
): Promise<Handler> {
  const [{ Metrics }, { metricsApp }] = await Promise.all([
    import("../status/metrics.ts"),
    import("../status/metrics_server.ts"),
  ]);
  const metrics = new Metrics(statusSource(options.proxy));
  const app = metricsApp({ metrics, configz: options.configz });
  return (request) => app.fetch(request);
}

export function statusSource(proxy: RunningProxy): StatusSource {
  return {
    version: VERSION,
    nodeName: proxy.nodeName,
    engine: proxy.engine,
    startedAt: performance.timeOrigin,
    counters: proxy.counters,
    services: () => proxy.state,
    ports: proxy.ports,
    draining: proxy.draining,
    health: proxy.health,
    sources: proxy.sources,
    steering: proxy.steering,
  };
}

export interface PersistentOptions {
  readonly address: BindAddress;
  readonly flag: string;
  /** Called once, before the first attempt. */
  load(): Promise<Handler>;
  readonly clock: Clock;
  /** An address that cannot be had is an error at once (`bindAddressHardFail`). */
  readonly hardFail?: boolean;
}

/** A server that is there as soon as it can be; disposing it ends it. */
export interface PersistentServer extends AsyncDisposable {
  /**
   * Resolves when it listens, or was disposed before.
   *
   * @throws {UserError} with `hardFail`, if the address cannot be had
   */
  readonly listening: Promise<void>;
}

/**
 * Serves at an address, and tries again every 5 s while somebody else has it:
 * said once (fact 7.23).
 */
export function servePersistently(
  options: PersistentOptions,
): PersistentServer {
  const ending = new AbortController();
  let server: HttpServer | undefined;
  const listening = listen(options, ending.signal).then((listening) => {
    server = listening;
  });
  // Whoever does not ask is not to be ended by it.
  listening.catch(() => {});
  return {
    listening,
    async [Symbol.asyncDispose]() {
      ending.abort();
      await listening.catch(() => {});
      await server?.shutdown();
    },
  };
}

async function listen(
  { address, flag, load, clock, hardFail = false }: PersistentOptions,
  signal: AbortSignal,
): Promise<HttpServer | undefined> {
  const handler = await load();
  let isSaid = false;
  while (!signal.aborted) {
    try {
      return serveHttp({ address, flag, handler });
    } catch (error) {
      if (hardFail) throw error;
      if (!isSaid) {
        logger.warn("Cannot serve at an address; trying again every 5 s", {
          flag: `--${flag}`,
          address: formatHostPort(address.ip, address.port),
          cause: error,
        });
      }
      isSaid = true;
      await clock.delay(RETRY_MS, signal).catch(() => {});
    }
  }
  return undefined;
}
