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
import { RouteWithRedirect } from "./route_with_redirect.ts";
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
 * Chooses and starts. `auto` takes `none` at once where every Service address
 * is local without help; else `redirect` if a rule of ours can be loaded, else
 * `route` if its route can be added, else `none`.
 *
 * @throws {SteeringError} if the strategy asked for cannot work; never for
 *   `auto` and `none`
 */
export async function chooseSteering(
  request: SteeringRequest,
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const { os = Deno.build.os } = options;
  if (request !== "auto") {
    const steering = strategy(request, options);
    await steering.start(options.signal);
    const why = request === "none" ? "it was asked for" : steering.description;
    return { steering, why, rejected: [] };
  }
  if (areLocalByThemselves(options, os)) {
    const steering = strategy("none", options);
    await steering.start(options.signal);
    const why = "every Service address is local without steering";
    return { steering, why, rejected: [] };
  }
  return await firstThatStarts(options);
}

/** In the order in which `auto` prefers them; the last one always starts. */
const AUTO_ORDER = ["redirect", "route", "none"] as const;

async function firstThatStarts(
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const rejected: { name: SteeringName; why: string }[] = [];
  for (const name of AUTO_ORDER) {
    const steering = strategy(name, options);
    try {
      await steering.start(options.signal);
      const why = name === "none" ? "it needs nothing" : steering.description;
      return { steering, why, rejected };
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      rejected.push({ name, why: error.message });
    }
  }
  throw new TypeError("No steering needs nothing");
}

function strategy(
  name: Exclude<SteeringRequest, "auto">,
  options: SteeringOptions,
): Steering {
  const { os = Deno.build.os, runner = systemRunner } = options;
  const ports = options.proxyPorts ?? DEFAULT_PROXY_PORTS;
  switch (name) {
    case "none":
      return new NoSteering({ os, interfaceAddresses });
    case "redirect":
      return new RedirectSteering({ runner, os, ports });
    case "route":
      return new RouteWithRedirect(
        new RouteSteering({ ...options, os, runner }),
        new RedirectSteering({ runner, os, ports }),
      );
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
