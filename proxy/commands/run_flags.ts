/**
 * The flags of `run`, read: what is said about addresses, times and numbers, as
 * values. In: flags, and the configuration they may overrule. Out: values, or
 * one sentence on what is wrong.
 *
 * @module
 */
import {
  HEALTHZ_PORT,
  type KubeProxyConfiguration,
  METRICS_PORT,
} from "../config/mod.ts";
import { bindAddress } from "./addresses.ts";
import { UserError } from "./errors.ts";
import { RUN_FLAGS } from "./flag_tables.ts";
import {
  cidrList,
  durationMs,
  type FlagValues,
  type GivenFlags,
  portRange,
} from "./flags.ts";

export type RunFlags = FlagValues<typeof RUN_FLAGS>;

/** @throws {UserError} if a value is none */
export function readRunFlags(
  given: GivenFlags<typeof RUN_FLAGS>,
  config: KubeProxyConfiguration,
) {
  const flags = given.values;
  const health = bindAddress(config.healthzBindAddress, {
    flag: "healthz-bind-address",
    defaultPort: HEALTHZ_PORT,
  });
  const metricsAddress = bindAddress(config.metricsBindAddress, {
    flag: "metrics-bind-address",
    defaultPort: METRICS_PORT,
  });
  const dashboardAddress = bindAddress(flags["dashboard-bind-address"] ?? "", {
    flag: "dashboard-bind-address",
    defaultPort: METRICS_PORT,
  });
  const drainMs = durationMs(flags["drain-timeout"], "drain-timeout");
  const udpTimeoutMs = !given.given.has("udp-timeout") &&
      config.udpIdleTimeout > 0
    ? config.udpIdleTimeout
    : durationMs(flags["udp-timeout"], "udp-timeout", { aboveZero: true });
  const workers = workerCount(flags.workers);
  const pollIntervalMs = durationMs(flags["poll-interval"], "poll-interval", {
    aboveZero: true,
  });
  const cidrs = cidrList(flags["service-cidr"] ?? "", "service-cidr");
  const ports = portRange(
    flags["proxy-port-range"] ?? config.portRange,
    "proxy-port-range",
  );
  return {
    health,
    metricsAddress,
    dashboardAddress,
    drainMs,
    udpTimeoutMs,
    workers,
    pollIntervalMs,
    cidrs,
    ports,
  };
}

/** Those without a value too, as `/flagz` has them. */
export function allFlags(flags: RunFlags): Record<string, string | boolean> {
  const values: Readonly<Record<string, string | boolean | undefined>> = flags;
  return Object.fromEntries(
    Object.keys(RUN_FLAGS).map((name) => [name, values[name] ?? ""]),
  );
}

/** As many as there can be sensibly: each is a thread of the process. */
const WORKERS_MAX = 64;

function workerCount(text: string): number {
  const count = Number(text);
  if (!/^[0-9]+$/.test(text) || count < 1 || count > WORKERS_MAX) {
    throw new UserError(
      `Invalid value "${text}" for --workers: want a number from 1 to ${WORKERS_MAX}`,
    );
  }
  return count;
}
