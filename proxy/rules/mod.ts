/**
 * Chooses the steering strategy for this machine, starts it, and says why not
 * another. The wiring calls it; the core sees only the `Steering` that comes
 * out.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { NamespaceOpener } from "../engine/engine.ts";
import { canonicalCidr } from "../ip.ts";
import {
  type Steering,
  SteeringError,
  type SteeringName,
} from "../steering.ts";
import { type CommandRunner, systemRunner } from "./command.ts";
import { removeOthers } from "./cleanup.ts";
import { lockToSteer, type SteeringLock, type TakeLock } from "./lock.ts";
import { interfaceAddresses, isLocalByItself, NoSteering } from "./none.ts";
import { DEFAULT_PROXY_PORTS, type PortRange } from "./proxy_ports.ts";
import { PortalSteering } from "./portal.ts";
import { type ProbePortal, probePortal } from "./portal_probe.ts";
import { RedirectSteering } from "./redirect.ts";
import { RouteSteering } from "./route.ts";
import { whyUnreached } from "./route_reach.ts";
import { RouteWithRedirect } from "./route_with_redirect.ts";
import type { ClusterFacts } from "./route_refusal.ts";

const logger = getLogger("rules");

export { interfaceAddresses } from "./none.ts";
export { whyUnreached } from "./route_reach.ts";
export { cleanupSteering } from "./cleanup.ts";
export { LEFTOVERS_ADVICE, readLeftovers } from "./kube_proxy_leftovers.ts";
export {
  lockToSteer,
  type SteeringLock,
  steeringLockHolder,
  type TakeLock,
} from "./lock.ts";
export type { PortRange } from "./proxy_ports.ts";
export { type ClusterFacts, routeRefusal } from "./route_refusal.ts";

/** What `--steer` takes. */
const STEERING_REQUESTS = [
  "auto",
  "portal",
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
  /** The engine can tell TCP connections apart that share a proxy port. */
  readonly sharesTcp?: boolean;
  readonly signal: AbortSignal;
  /** Opens listeners in the namespace of `portal`, which cannot do without. */
  readonly namespaces?: NamespaceOpener;
  /** Default: the real one. */
  readonly probePortal?: ProbePortal;
  /** Default: real programs. */
  readonly runner?: CommandRunner;
  /** Default: `Deno.build.os`. */
  readonly os?: string;
  /** Default: the machine's. */
  readonly takeLock?: TakeLock;
  /** `none` takes it too: for a process that takes over, and can be taken over from. */
  readonly alwaysLocks?: boolean;
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
  /** To be held for as long as the strategy is used; `none` needs none. */
  readonly lock?: SteeringLock;
}

/**
 * Chooses and starts. `auto` takes `none` at once where every Service address
 * is local without help; else `portal` if a connection through it answers, from
 * the node and forwarded, else `redirect` if a rule of ours can be loaded, else
 * `route` if its route can be added, else `none`. Where no route of the node
 * leads to Service addresses, `route` goes before `redirect`, to whose rules
 * the node's own clients would not come.
 *
 * @throws {SteeringError} if the strategy asked for cannot work, or another
 *   process steers the machine; never for `none`
 */
export async function chooseSteering(
  request: SteeringRequest,
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const { os = Deno.build.os, alwaysLocks = false } = options;
  const whyNone = request === "none"
    ? "it was asked for"
    : request === "auto" && areLocalByThemselves(options, os)
    ? "every Service address is local without steering"
    : undefined;
  if (whyNone !== undefined) {
    const lock = alwaysLocks && os === "linux"
      ? { lock: await lockToSteer(options) }
      : {};
    return { ...await onlyNone(whyNone, options), ...lock };
  }
  // Where nothing can be steered there is nothing to lock either.
  const lock = os === "linux" ? await lockToSteer(options) : NO_LOCK;
  try {
    const choice = await chooseLocked(request, options);
    if (choice.steering.name !== "none" || alwaysLocks) {
      return { ...choice, lock };
    }
    lock[Symbol.dispose]();
    return choice;
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

async function chooseLocked(
  request: SteeringRequest,
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const { cidrs, serviceIps, runner = systemRunner, signal, os } = options;
  const mayRedirect = (request === "auto" || request === "redirect") &&
    (os ?? Deno.build.os) === "linux";
  const unreached = mayRedirect
    ? await whyUnreached([...cidrs, ...serviceIps], { runner, signal })
    : undefined;
  const order = unreached === undefined ? AUTO_ORDER : AUTO_ORDER_OFFLINE;
  const names = request === "auto" ? order : [request];
  const choice = await firstThatStarts(names, options);
  if (unreached === undefined) return choice;
  const why =
    `Cannot steer the node's own clients by redirect: ${unreached}, so that they do not come to its rules`;
  if (choice.steering.name === "redirect") {
    logger.warn("Clients on the node itself do not come to Services", {
      reason: unreached,
      advice: "use --steer route, or add a route (the default one will do)",
    });
  }
  return choice.steering.name === "route"
    ? { ...choice, rejected: [...choice.rejected, { name: "redirect", why }] }
    : choice;
}

const NO_LOCK: SteeringLock = { [Symbol.dispose]: () => {} };

async function onlyNone(
  why: string,
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const steering = strategy("none", options);
  await steering.start(options.signal);
  return { steering, why, rejected: [] };
}

/** In the order in which `auto` prefers them; the last one always starts. */
const AUTO_ORDER = ["portal", "redirect", "route", "none"] as const;
/** Where the node's own clients would not come to the rules of `redirect`. */
const AUTO_ORDER_OFFLINE = ["portal", "route", "redirect", "none"] as const;

async function firstThatStarts(
  names: readonly Exclude<SteeringRequest, "auto">[],
  options: SteeringOptions,
): Promise<SteeringChoice> {
  const rejected: { name: SteeringName; why: string }[] = [];
  let last: SteeringError | undefined;
  for (const name of names) {
    const steering = strategy(name, options, names.length > 1);
    try {
      await steering.start(options.signal);
      await removeOthers(name, options);
      const why = name === "none" ? "it needs nothing" : steering.description;
      return { steering, why, rejected };
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      rejected.push({ name, why: error.message });
      last = error;
    }
  }
  throw last;
}

function strategy(
  name: Exclude<SteeringRequest, "auto">,
  options: SteeringOptions,
  mustForward = false,
): Steering {
  const { os = Deno.build.os, runner = systemRunner } = options;
  const ports = options.proxyPorts ?? DEFAULT_PROXY_PORTS;
  switch (name) {
    case "portal":
      return new PortalSteering({
        ...options,
        os,
        runner,
        namespaces: options.namespaces ?? NO_NAMESPACES,
        probe: options.probePortal ?? probePortal,
        mustForward,
      });
    case "none":
      return new NoSteering({ os, interfaceAddresses });
    case "redirect":
      return new RedirectSteering({
        runner,
        os,
        ports,
        sharesTcp: options.sharesTcp ?? false,
      });
    case "route":
      // For single addresses that somebody else holds: each by itself.
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

const NO_NAMESPACES: NamespaceOpener = {
  whyNot: () => "this program opens none",
  openIn() {
    throw new TypeError("Cannot open anything in a namespace");
  },
  writeIn() {
    throw new TypeError("Cannot write anything in a namespace");
  },
};
