/**
 * Whether the node's own packets for Service addresses come as far as rules. A
 * rule of `redirect` is asked only for packets that have a route: where none
 * leads to the address (an offline machine), a client on the node is told
 * "unreachable" before any rule is. Reads; changes nothing.
 *
 * @module
 */
import { canonicalCidr, canonicalIp, cidrContains, ipFamily } from "../ip.ts";
import { CommandError, type CommandRunner } from "./command.ts";
import { readMachine } from "./ip_route.ts";

export interface ReachOptions {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

interface RouteJson {
  /** Missing: unicast. */
  readonly type?: string;
  readonly dst?: string;
}

/** RTN_UNICAST and RTN_LOCAL of linux/rtnetlink.h. */
const UNICAST_TYPE = "1";
const LOCAL_TYPE = "2";

/**
 * Why a client on the node would not come to the rules, as the rest of a
 * sentence; undefined if it would, or nobody can tell.
 *
 * @param addresses Service addresses or CIDRs of them; the first counts
 */
export async function whyUnreached(
  addresses: readonly string[],
  options: ReachOptions,
): Promise<string | undefined> {
  const [first] = addresses;
  const ip = first === undefined ? undefined : addressIn(first);
  if (ip === undefined) return undefined;
  try {
    const [route] = await showRoutes(["route", "get", ip], ip, options);
    if (route?.type !== LOCAL_TYPE) return undefined;
    return await leadsOurRouteAlone(ip, options)
      ? `no route of the node leads to ${ip}, but one of an earlier run of --steer route`
      : undefined;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const isRefusal = /unreachable|No route to host/.test(error.stderr);
    return isRefusal ? `no route of the node leads to ${ip}` : undefined;
  }
}

/** It is local by a route of ours, and would be nowhere without. */
async function leadsOurRouteAlone(
  ip: string,
  options: ReachOptions,
): Promise<boolean> {
  const { runner, signal } = options;
  const { own } = await readMachine(runner, signal);
  const isOurs = [...own].some((item) => {
    const [, cidr = ""] = item.split(" ");
    return item.startsWith("route ") && cidrContains(cidr, ip);
  });
  if (!isOurs) return false;
  const routes = await showRoutes(
    ["route", "show", "table", "main"],
    ip,
    options,
  );
  return !routes.some(({ type = UNICAST_TYPE, dst = "" }) =>
    type === UNICAST_TYPE &&
    (dst === "default" || dst === ip ||
      (canonicalCidr(dst) !== undefined && cidrContains(dst, ip)))
  );
}

async function showRoutes(
  args: readonly string[],
  ip: string,
  { runner, signal }: ReachOptions,
): Promise<RouteJson[]> {
  const family = ipFamily(ip) === "IPv4" ? "-4" : "-6";
  const text = await runner.run(["ip", "-N", "-json", family, ...args], {
    signal,
  });
  return text.trim() === "" ? [] : JSON.parse(text) as RouteJson[];
}

/** A CIDR's first address, or the address itself. */
function addressIn(text: string): string | undefined {
  return canonicalIp(canonicalCidr(text)?.split("/")[0] ?? text);
}
