/**
 * Chooses the steering strategy for this machine, starts it, and says why not
 * another; and takes away what any strategy may have left. The wiring calls it;
 * the core sees only the `Steering` that comes out.
 *
 * @module
 */
import { canonicalCidr } from "../ip.ts";
import {
  type Steering,
  SteeringError,
  type SteeringName,
} from "../steering.ts";
import { type CommandRunner, systemRunner } from "./command.ts";
import { interfaceAddresses, isLocalByItself, NoSteering } from "./none.ts";
import { DEFAULT_PROXY_PORTS, type PortRange } from "./proxy_ports.ts";
import { RedirectSteering } from "./redirect.ts";
import { RouteSteering } from "./route.ts";
import type { ClusterFacts } from "./route_refusal.ts";

export { interfaceAddresses } from "./none.ts";
export type { PortRange } from "./proxy_ports.ts";
export { type ClusterFacts, routeRefusal } from "./route_refusal.ts";

/** What `--steer` takes. */
export const STEERING_REQUESTS = [
  "auto",
  "redirect",
  "route",
  "none",
] as const;
export type SteeringRequest = typeof STEERING_REQUESTS[number];

export interface SteeringOptions {
  /** `--service-cidr`, else those of ServiceCIDR objects, else empty. */
  readonly cidrs: readonly string[];
  /** Service addresses known so far; asked only where `cidrs` is empty. */
  readonly serviceIps: readonly string[];
  /** What must stay reachable; asked again whenever something is added. */
  readonly clusterFacts: () => ClusterFacts;
  /** `--proxy-port-range`. */
  readonly proxyPorts?: PortRange;
  readonly signal: AbortSignal;
  /** Default: real programs. */
  readonly runner?: CommandRunner;
  /** Default: `Deno.build.os`. */
  readonly os?: string;
}

/** A strategy that was started, and what there is to say about the choice. */
export interface SteeringChoice {
  readonly steering: Steering;
  /** Why this one, as the rest of a sentence. */
  readonly why: string;
  /** The ones that would have been better, each with its reason. */
  readonly rejected: readonly {
    readonly name: SteeringName;
    readonly why: string;
  }[];
}

/**
 * Chooses and starts: `route` if its route can be added, else `none`; and
 * `none` at once where every Service address is local without help.
 *
 * @throws {SteeringError} if the strategy asked for cannot work; never for
 *   `auto` and `none`
 */
export async function chooseSteering(
  request: SteeringRequest,
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const { signal, os = Deno.build.os, runner = systemRunner } = options;
  const none = new NoSteering({ os, interfaceAddresses });
  const ports = options.proxyPorts ?? DEFAULT_PROXY_PORTS;
  const redirect = new RedirectSteering({ runner, os, ports });
  const route = new RouteSteering({ ...options, os, runner });
  switch (request) {
    case "none":
      await none.start();
      return { steering: none, why: "it was asked for", rejected: [] };
    case "redirect":
      await redirect.start(signal);
      return { steering: redirect, why: redirect.description, rejected: [] };
    case "route":
      await route.start(signal);
      return { steering: route, why: "it was asked for", rejected: [] };
    case "auto": {
      if (areLocalByThemselves(options, os)) {
        await none.start();
        const why = "every Service address is local without steering";
        return { steering: none, why, rejected: [] };
      }
      try {
        await route.start(signal);
        return { steering: route, why: route.description, rejected: [] };
      } catch (error) {
        if (!(error instanceof SteeringError)) throw error;
        await none.start();
        return {
          steering: none,
          why: "it needs nothing",
          rejected: [{ name: "route", why: error.message }],
        };
      }
    }
  }
}

function areLocalByThemselves(
  { cidrs, serviceIps }: SteeringOptions,
  os: string,
): boolean {
  // A CIDR that starts in 127.0.0.0/8 and is no wider lies in it. Elsewhere
  // than on Linux no CIDR is local as a whole.
  if (cidrs.length > 0) {
    return os === "linux" && cidrs.every((text) => {
      const [base = "", prefix = ""] = canonicalCidr(text)?.split("/") ?? [];
      return isLocalByItself(base, os) &&
        Number(prefix) >= (base === "::1" ? 128 : 8);
    });
  }
  return serviceIps.length > 0 &&
    serviceIps.every((ip) => isLocalByItself(ip, os));
}

/**
 * Removes what any strategy, of this run or an earlier one, has installed.
 * Twice in a row is fine.
 *
 * @throws {SteeringError} if something of ours is still there
 */
export async function cleanupSteering(
  options: { signal: AbortSignal; runner?: CommandRunner },
): Promise<void> {
  const runner = options.runner ?? systemRunner;
  const route = new RouteSteering({
    cidrs: [],
    clusterFacts: () => NO_CLUSTER_FACTS,
    runner,
    os: Deno.build.os,
  });
  await route.cleanup(options.signal);
  const redirect = new RedirectSteering({ runner, os: Deno.build.os });
  await redirect.cleanup(options.signal);
}

const NO_CLUSTER_FACTS: ClusterFacts = {
  apiServers: new Set(),
  podCidrs: [],
  endpoints: new Set(),
};
