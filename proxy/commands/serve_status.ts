/**
 * The metrics server, wired: loads what it needs (a library for the text
 * format, the pages) only now, and keeps trying for its address.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Handler } from "../../watch/http/exchange.ts";
import type { HttpServer, SocketSource } from "../../watch/http/server.ts";
import type { Clock } from "../../watch/mod.ts";
import { formatHostPort, isLoopback } from "../ip.ts";
import type { EventFeed } from "../status/event_feed.ts";
import type { StatusBoard } from "../status/status_board.ts";
import type { StatusSource } from "../status/status_source.ts";
import type { ZpagesOptions } from "../status/zpages.ts";
import { type BindAddress, serveHttp } from "./addresses.ts";
import { VERSION } from "./version.ts";
import type { RunningProxy } from "./running_proxy.ts";

const logger = getLogger("status");

/** Upstream's pause between two attempts to have the address (fact 7.23). */
const RETRY_MS = 5_000;

/** For requests that had come before another process took the address over. */
const LEAVE_MS = 2_000;

/** Samples for the plots while no page is open. */
const LOOK_EVERY_MS = 5_000;

export interface StatusOptions {
  readonly proxy: RunningProxy;
  /** A KubeProxyConfiguration, ready for JSON. */
  configz(): Readonly<Record<string, unknown>>;
  /** All of the command line's, defaults included: for `/flagz`. */
  readonly flags: ZpagesOptions["flags"];
  readonly feed: EventFeed;
  /** The metrics port serves the dashboard too. */
  readonly withDashboard: boolean;
  /** Ends what goes on by itself: streams of pages, the look every few seconds. */
  readonly signal: AbortSignal;
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
  const app = metricsApp({
    mode: options.proxy.mode,
    metrics,
    configz: options.configz,
    about: {
      version: VERSION,
      startedAt: performance.timeOrigin,
      now: () => Date.now(),
      flags: options.flags,
    },
    ...(options.withDashboard
      ? { rest: await loadDashboardHandler(options) }
      : {}),
  });
  return (request) => app.fetch(request);
}

/** What a port answers that serves the dashboard and nothing else. */
async function loadDashboardHandler(
  { proxy, feed, signal }: Pick<StatusOptions, "proxy" | "feed" | "signal">,
): Promise<Handler> {
  const { dashboardApp } = await import("../status/dashboard.ts");
  const { StatusBoard } = await import("../status/status_board.ts");
  const board = new StatusBoard(statusSource(proxy), () => Date.now());
  keepLooking(board, signal);
  const app = dashboardApp({ board, feed, signal });
  return (request) => app.fetch(request);
}

/** Plots begin with the last minutes, though nobody was looking. */
function keepLooking(board: StatusBoard, signal: AbortSignal): void {
  if (signal.aborted) return;
  const timer = setInterval(
    () => board.refresh(LOOK_EVERY_MS / 2),
    LOOK_EVERY_MS,
  );
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

function statusSource(proxy: RunningProxy): StatusSource {
  return {
    version: VERSION,
    mode: proxy.mode,
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
    kernelCounts: proxy.kernelCounts,
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
  /** Not before this: until then another process has the address. */
  readonly after?: Promise<void> | undefined;
  readonly sockets?: SocketSource | undefined;
}

/** A server that is there as soon as it can be; disposing it ends it. */
export interface PersistentServer extends AsyncDisposable {
  /**
   * Resolves when it listens, or was disposed before.
   *
   * @throws {UserError} with `hardFail`, if the address cannot be had
   */
  readonly listening: Promise<void>;
  /** Stops listening; who is connected is answered for a moment still. */
  leave(): Promise<void>;
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
    async leave() {
      ending.abort();
      await listening.catch(() => {});
      await server?.leave(LEAVE_MS);
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await listening.catch(() => {});
      await server?.shutdown();
    },
  };
}

async function listen(
  options: PersistentOptions,
  signal: AbortSignal,
): Promise<HttpServer | undefined> {
  const { address, flag, load, clock, hardFail = false, sockets } = options;
  const handler = await load();
  if (options.after !== undefined) {
    await Promise.race([options.after, aborted(signal)]);
  }
  let isSaid = false;
  while (!signal.aborted) {
    try {
      return await serveHttp({ address, flag, handler, sockets });
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

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve(), { once: true });
  });
}

export interface ServeStatusOptions
  extends Pick<PersistentOptions, "after" | "sockets"> {
  readonly metricsAddress: BindAddress | undefined;
  readonly dashboardAddress: BindAddress | undefined;
  readonly proxy: RunningProxy;
  configz(): Readonly<Record<string, unknown>>;
  readonly flags: ZpagesOptions["flags"];
  readonly feed: EventFeed;
  readonly clock: Clock;
  readonly hardFail: boolean;
}

/** What is served where. */
export interface StatusServer {
  readonly address: BindAddress;
  readonly serves: "metrics" | "dashboard" | "both";
}

/**
 * The metrics server and the dashboard: one server where metrics is on loopback
 * (the dashboard shows more than metrics do) or both have one address, else two.
 */
export function statusServers(
  { metricsAddress, dashboardAddress }: Pick<
    ServeStatusOptions,
    "metricsAddress" | "dashboardAddress"
  >,
): StatusServer[] {
  const isShared = dashboardAddress !== undefined &&
    metricsAddress?.ip === dashboardAddress.ip &&
    metricsAddress.port === dashboardAddress.port;
  const servers: StatusServer[] = [];
  if (metricsAddress !== undefined) {
    const serves = isShared || isLoopback(metricsAddress.ip)
      ? "both"
      : "metrics";
    servers.push({ address: metricsAddress, serves });
  }
  if (dashboardAddress !== undefined && !isShared) {
    servers.push({ address: dashboardAddress, serves: "dashboard" });
  }
  return servers;
}

/** Serves them, each as soon as it can have its address. */
export function serveStatus(options: ServeStatusOptions): PersistentServer {
  const { clock, hardFail, after, sockets } = options;
  const ending = new AbortController();
  const { signal } = ending;
  const servers = statusServers(options).map(({ address, serves }) =>
    servePersistently({
      address,
      flag: serves === "dashboard"
        ? "dashboard-bind-address"
        : "metrics-bind-address",
      load: () =>
        serves === "dashboard"
          ? loadDashboardHandler({ ...options, signal })
          : loadMetricsHandler({
            ...options,
            withDashboard: serves === "both",
            signal,
          }),
      clock,
      hardFail,
      after,
      sockets,
    })
  );
  const listening = Promise.all(servers.map((server) => server.listening))
    .then(() => {});
  listening.catch(() => {});
  return {
    listening,
    async leave() {
      await Promise.all(servers.map((server) => server.leave()));
      ending.abort();
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await Promise.all(servers.map((server) => server[Symbol.asyncDispose]()));
    },
  };
}
