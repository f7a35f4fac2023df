/**
 * The portal on a machine, read and written through iproute2's `ip`: a named
 * network namespace, a veth pair into it, and routes. Decides nothing.
 *
 *     node                              namespace "kube-portal"
 *     10.96.0.0/16 ─► kube-portal0 ═══► portal0 ─► local 10.96.0.0/16 dev lo
 *                                                  default ─► portal0 ─► node
 *
 * Neither end of the pair has an address, so that the node has none that it
 * would take for its own; each knows the other's by a permanent neighbour
 * entry, and nobody asks.
 *
 * @module
 */
import { type IpFamily, ipFamily } from "../ip.ts";
import { SteeringError } from "../steering.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "./command.ts";
import {
  batchFailures,
  ipReason,
  parseJson,
  ROUTE_PROTOCOL,
  routeCidr,
} from "./ip_route.ts";

/** As `ip netns` knows it. */
const PORTAL_NAME = "kube-portal";

/** Where `ip netns add` puts the name. */
export const PORTAL_PATH = `/run/netns/${PORTAL_NAME}`;

/** The node's end of the pair; its link address is the mark that it is ours. */
export const NODE_END = { name: "kube-portal0", mac: "02:6b:70:00:00:01" };
const PORTAL_END = { name: "portal0", mac: "02:6b:70:00:00:02" };

/** Next hops that are no host's: a neighbour entry is all there is of them. */
const NEXT_HOPS: Readonly<
  Record<IpFamily, { readonly node: string; readonly portal: string }>
> = {
  IPv4: { node: "169.254.107.3", portal: "169.254.107.2" },
  IPv6: { node: "fe80::6b70:1", portal: "fe80::6b70:2" },
};

/** Without it, bind asks for each IPv6 address on an interface. */
export const NONLOCAL_BIND = "/proc/sys/net/ipv6/ip_nonlocal_bind";

interface Options {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** What there is of the portal. */
export interface PortalState {
  readonly hasNamespace: boolean;
  /** The pair is there, and both of its ends are where they belong. */
  readonly hasPair: boolean;
  /** A link of ours by name is somebody else's. */
  readonly isNameTaken: boolean;
  /** CIDRs that are led into the namespace, and are local there. */
  readonly routed: ReadonlySet<string>;
  readonly local: ReadonlySet<string>;
}

/**
 * Looks.
 *
 * @throws {CommandError} of the runner, where `ip` cannot be run at all
 */
export async function readPortal(options: Options): Promise<PortalState> {
  const { runner, signal } = options;
  const names = await runner.run(["ip", "netns", "list"], { signal });
  const hasNamespace = names.split("\n").some((line) =>
    line.split(" ")[0] === PORTAL_NAME
  );
  const nodeEnd = await readLink(NODE_END.name, [], options);
  const isNameTaken = nodeEnd !== undefined && nodeEnd !== NODE_END.mac;
  const inside = ["-n", PORTAL_NAME];
  const portalEnd = hasNamespace
    ? await readLink(PORTAL_END.name, inside, options)
    : undefined;
  const hasPair = nodeEnd === NODE_END.mac && portalEnd === PORTAL_END.mac;
  return {
    hasNamespace,
    hasPair,
    isNameTaken,
    routed: nodeEnd === NODE_END.mac
      ? await readRoutes(["dev", NODE_END.name], [], options)
      : new Set(),
    local: hasNamespace
      ? await readRoutes(["table", "local"], inside, options)
      : new Set(),
  };
}

/** The link address of an interface; `undefined` if there is none. */
async function readLink(
  name: string,
  inside: readonly string[],
  options: Options,
): Promise<string | undefined> {
  const args = ["-N", "-json", ...inside, "link", "show", "dev", name];
  const [link] = await readJson(args, options) as { address?: string }[];
  return link?.address;
}

async function readRoutes(
  which: readonly string[],
  inside: readonly string[],
  options: Options,
): Promise<Set<string>> {
  const cidrs = new Set<string>();
  for (const flag of ["-4", "-6"]) {
    const routes = await readJson([
      "-N",
      "-json",
      ...inside,
      flag,
      "route",
      "show",
      ...which,
      "proto",
      String(ROUTE_PROTOCOL),
    ], options) as { dst?: string }[];
    for (const { dst } of routes) {
      const cidr = routeCidr(dst ?? "");
      if (cidr !== undefined) cidrs.add(cidr);
    }
  }
  return cidrs;
}

/** What `ip` says of something that is not there is an empty list. */
async function readJson(
  args: readonly string[],
  { runner, signal }: Options,
): Promise<unknown[]> {
  try {
    return parseJson(await runner.run(["ip", ...args], { signal }));
  } catch (error) {
    if (error instanceof CommandError && error.exitCode !== undefined) {
      return [];
    }
    throw error;
  }
}

/**
 * Makes the namespace and the pair, as far as they are missing, and sets up
 * what is there: all of it may be said again.
 *
 * @returns how much was made
 * @throws {SteeringError} if it cannot be; one sentence says why
 */
export async function ensurePortal(
  state: PortalState,
  options: Options,
): Promise<number> {
  let made = 0;
  if (state.isNameTaken) {
    throw new SteeringError(
      `Cannot make a portal: somebody else's link is named "${NODE_END.name}"`,
    );
  }
  if (!state.hasNamespace) {
    await run(["netns", "add", PORTAL_NAME], options);
    made++;
  }
  if (!state.hasPair) {
    await removePair(options);
    await run([
      ...["link", "add", NODE_END.name, "address", NODE_END.mac],
      ...["type", "veth", "peer", "name", PORTAL_END.name],
      ...["address", PORTAL_END.mac, "netns", PORTAL_NAME],
    ], options);
    made++;
  }
  await setUp(options);
  return made;
}

async function setUp(options: Options): Promise<void> {
  const { node, portal } = NEXT_HOPS.IPv4;
  await batch([], [
    `link set ${NODE_END.name} up`,
    neighbour(portal, PORTAL_END.mac, NODE_END.name),
  ], options);
  await batch(["-n", PORTAL_NAME], [
    "link set lo up",
    `link set ${PORTAL_END.name} up`,
    neighbour(node, NODE_END.mac, PORTAL_END.name),
    `route replace default via ${node} dev ${PORTAL_END.name} onlink`,
  ], options);
  try {
    const { node, portal } = NEXT_HOPS.IPv6;
    await batch(["-6"], [
      neighbour(portal, PORTAL_END.mac, NODE_END.name),
    ], options);
    await batch(["-6", "-n", PORTAL_NAME], [
      neighbour(node, NODE_END.mac, PORTAL_END.name),
      `route replace default via ${node} dev ${PORTAL_END.name} onlink`,
    ], options);
  } catch (error) {
    // A node without IPv6: its addresses will be named where they fail.
    if (!(error instanceof SteeringError)) throw error;
  }
}

function neighbour(ip: string, mac: string, device: string): string {
  return `neigh replace ${ip} lladdr ${mac} dev ${device} nud permanent`;
}

async function batch(
  flags: readonly string[],
  lines: readonly string[],
  { runner, signal }: Options,
): Promise<void> {
  const stdin = lines.join("\n") + "\n";
  await explained(
    runner.run(["ip", ...flags, "-batch", "-"], { signal, stdin }),
  );
}

async function run(
  args: readonly string[],
  { runner, signal }: Options,
): Promise<void> {
  await explained(runner.run(["ip", ...args], { signal }));
}

async function explained(work: Promise<unknown>): Promise<void> {
  try {
    await work;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const [line = ""] = error.stderr.trim().split("\n");
    const why = line === ""
      ? error.message
      : /Operation not permitted|Permission denied/.test(line)
      ? "needs CAP_NET_ADMIN and CAP_SYS_ADMIN (run as root)"
      : ipReason(line);
    throw new SteeringError(`Cannot make a portal: ${why}`, { cause: error });
  }
}

/**
 * Adds or removes CIDRs, each for itself: first inside, so that no packet comes
 * to a namespace that would send it back.
 *
 * @returns those that failed, with the reason
 */
export async function writeRoutes(
  verb: "add" | "del",
  cidrs: Iterable<string>,
  options: Options,
): Promise<Map<string, string>> {
  const failures = new Map<string, string>();
  const local = ["-n", PORTAL_NAME];
  const steps = [
    { flags: local, line: (cidr: string) => `${cidr} dev lo`, type: "local " },
    { flags: [], line: (cidr: string) => nodeRoute(cidr), type: "" },
  ];
  if (verb === "del") steps.reverse();
  for (const { flags, line, type } of steps) {
    for (const family of ["IPv4", "IPv6"] as const) {
      const own = [...cidrs].filter((cidr) =>
        ipFamily(cidr) === family && !failures.has(cidr)
      );
      if (own.length === 0) continue;
      const how = verb === "add" ? "replace" : "del";
      const stdin = own.map((cidr) =>
        `route ${how} ${type}${line(cidr)} proto ${ROUTE_PROTOCOL}\n`
      ).join("");
      const flag = family === "IPv4" ? "-4" : "-6";
      try {
        await options.runner.run(
          ["ip", ...flags, flag, "-force", "-batch", "-"],
          { signal: options.signal, stdin },
        );
      } catch (error) {
        if (!(error instanceof CommandError)) throw error;
        for (const [cidr, why] of batchFailures(own, error)) {
          if (verb === "del" && GONE_REGEXP.test(why)) continue;
          failures.set(cidr, ipReason(why));
        }
      }
    }
  }
  return failures;
}

const GONE_REGEXP =
  /No such (process|file)|not found|Cannot find device|does not exist/;

function nodeRoute(cidr: string): string {
  const { portal } = NEXT_HOPS[ipFamily(cidr)];
  return `${cidr} via ${portal} dev ${NODE_END.name} onlink`;
}

/**
 * Removes all of it; what is not there is no failure.
 *
 * @throws {SteeringError} if something of ours is still there
 */
export async function removePortal(options: Options): Promise<void> {
  let state: PortalState;
  try {
    state = await readPortal(options);
  } catch (error) {
    // Without `ip` nothing was ever made.
    if (isProgramMissing(error)) return;
    throw error instanceof CommandError
      ? new SteeringError(`Cannot remove the portal: ${error.message}`, {
        cause: error,
      })
      : error;
  }
  try {
    await removePair(options);
    if (state.hasNamespace) await run(["netns", "del", PORTAL_NAME], options);
  } catch (error) {
    if (!(error instanceof SteeringError)) throw error;
    throw new SteeringError(
      error.message.replace("Cannot make a", "Cannot remove the"),
      { cause: error.cause },
    );
  }
}

/** With one end goes the other, and every route through them. */
async function removePair(options: Options): Promise<void> {
  const mac = await readLink(NODE_END.name, [], options);
  if (mac === NODE_END.mac) {
    await run(["link", "del", "dev", NODE_END.name], options);
  }
}
