/**
 * What `route` reads from and writes to the kernel, through iproute2's `ip`:
 * its JSON becomes a `Machine`, and items become lines of `ip -batch`. Decides
 * nothing.
 *
 * @module
 */
import {
  canonicalCidr,
  canonicalIp,
  ipFamily,
  singleAddressCidr,
} from "../ip.ts";
import { SteeringError } from "../steering.ts";
import { CommandError, type CommandRunner } from "./command.ts";
import type { MachineFacts } from "./route_refusal.ts";

/**
 * The mark on our routes: the kernel keeps a number with each route that says
 * who added it (`ip route show proto 107`). Below 4 is the kernel's own; the
 * rest is free to use, and iproute2's `rt_protos`, FRR and BIRD name none near
 * 107.
 */
export const ROUTE_PROTOCOL = 107;

/**
 * The mark on our addresses. Addresses got a protocol field only with Linux
 * 5.18 and iproute2 6.3, so we take the metric, which is stored and shown but
 * decides nothing for a `/128` on `lo`.
 */
const ADDRESS_METRIC = 10_701;

/**
 * Something we install on `lo`: a local route, or an address.
 * `route 10.96.0.0/16`, `address fd00:96::10`.
 */
export type Item = `route ${string}` | `address ${string}`;

/** What the machine has, as far as steering asks. Everything canonical. */
export interface Machine extends MachineFacts {
  /** What carries our mark, whichever run installed it. */
  readonly own: ReadonlySet<Item>;
  /** CIDRs that others made local: `127.0.0.0/8`, or an AnyIP route by hand. */
  readonly localCidrs: readonly string[];
  /** The same for routes to one address; the node's own are among them. */
  readonly localIps: ReadonlySet<string>;
}

/** Before anything was read. */
export const NO_MACHINE: Machine = {
  own: new Set(),
  localCidrs: [],
  localIps: new Set(),
  nodeAddresses: new Set(),
  gateways: new Set(),
};

interface RouteJson {
  readonly type?: string;
  readonly dst?: string;
  readonly dev?: string;
  readonly protocol?: string;
  readonly gateway?: string;
  readonly via?: { readonly host?: string };
  readonly nexthops?: readonly RouteJson[];
}

interface LinkJson {
  readonly ifname?: string;
  readonly addr_info?: readonly {
    readonly local?: string;
    /** The far end of a point-to-point link. */
    readonly address?: string;
    readonly prefixlen?: number;
    readonly metric?: number;
  }[];
}

/**
 * Reads addresses and routes of both families. Needs no privilege.
 *
 * @throws {CommandError} of the runner
 * @throws {SteeringError} if `ip` is not iproute2's
 */
export async function readMachine(
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<Machine> {
  // -N: numbers for protocols and types, whatever names /etc/iproute2 has.
  const read = async (...args: string[]) =>
    parseJson(await runner.run(["ip", "-N", "-json", ...args], { signal }));
  const [links, ...routes] = [
    await read("addr", "show"),
    await read("-4", "route", "show", "table", "all"),
    await read("-6", "route", "show", "table", "all"),
  ];
  return machineOf(links as LinkJson[], routes.flat() as RouteJson[]);
}

/** What `ip` printed, as a `Machine`. */
function machineOf(
  links: readonly LinkJson[],
  routes: readonly RouteJson[],
): Machine {
  const own = new Set<Item>();
  const nodeAddresses = new Set<string>();
  const gateways = new Set<string>();
  const localCidrs: string[] = [];
  const localIps = new Set<string>();
  for (const link of links) {
    for (const address of link.addr_info ?? []) {
      const ip = canonicalIp(address.local ?? "");
      if (ip === undefined) continue;
      const ours = link.ifname === "lo" && address.prefixlen === 128 &&
        address.metric === ADDRESS_METRIC;
      if (ours) own.add(`address ${ip}`);
      else nodeAddresses.add(ip);
      addIp(gateways, address.address);
    }
  }
  for (const route of routes) {
    for (const hop of [route, ...route.nexthops ?? []]) {
      addIp(gateways, hop.gateway);
      addIp(gateways, hop.via?.host);
    }
    if (route.type !== LOCAL_TYPE) continue;
    const cidr = routeCidr(route.dst ?? "");
    if (cidr === undefined) continue;
    if (route.protocol === String(ROUTE_PROTOCOL) && route.dev === "lo") {
      own.add(`route ${cidr}`);
    } else if (isSingle(cidr)) localIps.add(cidr.split("/")[0] ?? "");
    else localCidrs.push(cidr);
  }
  return { own, nodeAddresses, gateways, localCidrs, localIps };
}

/** RTN_LOCAL of linux/rtnetlink.h. */
const LOCAL_TYPE = "2";

function addIp(set: Set<string>, text: string | undefined): void {
  const ip = canonicalIp(text ?? "");
  if (ip !== undefined) set.add(ip);
}

function isSingle(cidr: string): boolean {
  return cidr.endsWith(ipFamily(cidr) === "IPv4" ? "/32" : "/128");
}

/** `ip` writes a route to one address without its prefix. */
export function routeCidr(dst: string): string | undefined {
  const ip = canonicalIp(dst);
  return ip === undefined ? canonicalCidr(dst) : singleAddressCidr(ip);
}

/** @throws {SteeringError} if it is not JSON */
export function parseJson(text: string): unknown[] {
  if (text.trim() === "") return [];
  try {
    const value: unknown = JSON.parse(text);
    if (Array.isArray(value)) return value;
  } catch {
    // Said below: it is the same mistake.
  }
  throw new SteeringError(
    'Cannot read the routes: "ip" does not print JSON, iproute2 is needed',
  );
}

/**
 * Adds or removes items, each for itself, in one run of `ip` for each family
 * (10,000 routes take 0.1 s so).
 *
 * @returns what failed: everything, if `ip` cannot be started. Removing what is
 *   already gone is no failure
 */
export async function writeItems(
  verb: "add" | "del",
  items: readonly Item[],
  options: { runner: CommandRunner; signal: AbortSignal },
): Promise<Map<Item, SteeringError>> {
  const failures = new Map<Item, SteeringError>();
  for (const family of ["IPv4", "IPv6"] as const) {
    const batch = items.filter((item) => ipFamily(item) === family);
    if (batch.length === 0) continue;
    const flag = family === "IPv4" ? "-4" : "-6";
    const stdin = batch.map((item) => batchLine(verb, item)).join("");
    try {
      await options.runner.run(["ip", flag, "-force", "-batch", "-"], {
        signal: options.signal,
        stdin,
      });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      for (const [item, why] of batchFailures(batch, error)) {
        if (verb === "del" && GONE_REGEXP.test(why)) continue;
        failures.set(item, itemError(verb, item, why));
      }
    }
  }
  return failures;
}

const GONE_REGEXP = /No such process|not found|Cannot assign|does not exist/;

function batchLine(verb: "add" | "del", item: Item): string {
  const [kind, target] = item.split(" ");
  if (kind === "route") {
    return `route ${verb} local ${target} dev lo proto ${ROUTE_PROTOCOL}\n`;
  }
  // preferred_lft 0: the node must not pick a Service address as the source
  // of its own connections. Such an address can be bound like any other.
  // nodad: on `lo` too, the kernel first calls an address tentative, and ends
  // that from a work queue; until then, milliseconds, it cannot be bound.
  const how = verb === "add" ? " nodad preferred_lft 0" : "";
  return `addr ${verb} ${target}/128 dev lo metric ${ADDRESS_METRIC}${how}\n`;
}

/**
 * Which lines of a batch failed, each with the reason: with `-force`, `ip`
 * names each after what the kernel said.
 */
export function* batchFailures<T>(
  batch: readonly T[],
  error: CommandError,
): Iterable<[T, string]> {
  let reason = "";
  let named = false;
  for (const line of error.stderr.split("\n")) {
    const number = /^Command failed -:(\d+)/.exec(line)?.[1];
    if (number === undefined) {
      reason = line === "" ? reason : line;
      continue;
    }
    const item = batch[Number(number) - 1];
    if (item !== undefined) yield [item, reason];
    named = true;
  }
  if (!named) { for (const item of batch) yield [item, error.message]; }
}

function itemError(
  verb: "add" | "del",
  item: Item,
  why: string,
): SteeringError {
  const reason = ipReason(why);
  const what = item.startsWith("route ")
    ? `the local ${item}`
    : `the ${item} on "lo"`;
  return new SteeringError(
    `Cannot ${verb === "add" ? "add" : "remove"} ${what}: ${reason}`,
  );
}

/** What `ip` said, as the rest of a sentence. */
export function ipReason(text: string): string {
  return isNotPermitted(text)
    ? "needs CAP_NET_ADMIN (run as root)"
    : text.replace(/^(RTNETLINK answers|Error): /, "");
}

function isNotPermitted(text: string): boolean {
  return text.includes("Operation not permitted");
}

/**
 * Asks whether we may write routes, by removing one that cannot exist: the
 * kernel checks the privilege before it looks for the route.
 *
 * @returns the reason why not
 */
export async function writeRefusal(
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<string | undefined> {
  const route = ["local", "127.255.255.254/32", "dev", "lo"];
  try {
    await runner.run(
      ["ip", "-4", "route", "del", ...route, "proto", String(ROUTE_PROTOCOL)],
      { signal },
    );
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    if (error.exitCode === undefined) return error.message;
    if (isNotPermitted(error.stderr)) {
      return "needs CAP_NET_ADMIN (run as root)";
    }
  }
  return undefined;
}
