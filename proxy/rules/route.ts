/**
 * Steering by AnyIP: one local route makes every address of the Service CIDR
 * the machine's own, so a listener binds ClusterIP:port itself. No NAT, no
 * conntrack, no netfilter; pods' packets are delivered locally too, and replies
 * leave from the ClusterIP.
 *
 * Service addresses go in; routes and addresses on `lo` come out. It does not
 * know which ports are served: the kernel refuses the others by itself.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ListenAddress } from "../engine/engine.ts";
import {
  cidrContains,
  cidrContainsCidr,
  ipFamily,
  isLoopback,
  singleAddressCidr,
} from "../ip.ts";
import {
  type ListenerChanges,
  type ServiceAddress,
  type Steering,
  SteeringError,
  type SteeringResult,
} from "../steering.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "./command.ts";
import { type Added, Installation } from "./installation.ts";
import {
  type Item,
  type Machine,
  NO_MACHINE,
  readMachine,
  writeItems,
  writeRefusal,
} from "./ip_route.ts";
import { isRedirectTarget, withoutTargets } from "./redirect_target.ts";
import { type ClusterFacts, routeRefusal } from "./route_refusal.ts";
import { canonicalCidrs, explained } from "./start_errors.ts";
import type { WantedAddresses } from "./wanted_addresses.ts";

const logger = getLogger("rules");

export interface RouteOptions {
  /** The Service CIDRs; empty if unknown: then each address gets a route. */
  readonly cidrs: readonly string[];
  /** Asked again before anything new is made local. */
  readonly clusterFacts: () => ClusterFacts;
  readonly runner: CommandRunner;
  /** `Deno.build.os`. */
  readonly os: string;
}

export class RouteSteering implements Steering {
  readonly name = "route";
  readonly #options: RouteOptions;
  /** Service CIDRs that are not local by themselves. */
  #cidrs: readonly string[] = [];
  /** The machine as last read; of what is ours, `#installation` knows more. */
  #machine: Machine = NO_MACHINE;
  readonly #installation = new Installation<Item>({
    neededFor: (ips, wanted) => this.#neededFor(ips, wanted),
    onlyFor: (ip) => [`address ${ip}`, `route ${singleAddressCidr(ip)}`],
    behind: (address) => this.#itemBehind(address),
    refused: (items) => this.#refused(items),
    add: (items, signal) => this.#add(items, signal),
    remove: (items, signal) => this.#remove(items, signal),
  });

  constructor(options: RouteOptions) {
    this.#options = options;
  }

  get description(): string {
    const { cidrs } = this.#options;
    return cidrs.length === 0
      ? "each Service address is local by a route of its own"
      : `all of ${cidrs.join(", ")} is local by AnyIP`;
  }

  /** As `Steering.start`; refuses a CIDR that would cut the node off. */
  async start(signal: AbortSignal): Promise<void> {
    const { os, runner } = this.#options;
    if (os !== "linux") {
      throw cannotSteer(`AnyIP routes need Linux, and this is ${os}`);
    }
    const cidrs = canonicalCidrs(this.#options.cidrs, cannotSteer);
    await explained(this.#observe(signal), cannotSteer);
    this.#cidrs = cidrs.filter((cidr) => !this.#isLocalCidr(cidr));
    const facts = this.#facts();
    for (const cidr of this.#cidrs) {
      const why = routeRefusal(cidr, facts);
      if (why !== undefined) {
        throw cannotSteer(`${cidr} must not become local: ${why}`);
      }
    }
    if (cidrs.length === 0) {
      const why = await writeRefusal(runner, signal);
      if (why !== undefined) throw cannotSteer(why);
      return;
    }
    await explained(this.#installation.begin(signal), cannotSteer);
    const failures = [...this.#installation.failures.values()];
    const [failure] = failures;
    if (failure === undefined) return;
    if (failures.length === this.#cidrs.length) throw failure;
    // A node without IPv6 still serves the IPv4 half of a dual-stack cluster.
    logger.warn("Cannot add every Service route; going on with the others", {
      reason: failure.message,
    });
  }

  prepare(
    added: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    return this.#installation.prepare(added, signal);
  }

  /**
   * The address itself. External and load-balancer addresses are served where
   * they are local already: to make them so would answer for hosts that exist
   * elsewhere.
   */
  bindAddress({ kind, ip, port }: ServiceAddress): ListenAddress | undefined {
    const comesHere = kind === "ClusterIP" || kind === "NodePort" ||
      this.#isLocal(ip);
    return comesHere ? { ip, port } : undefined;
  }

  /**
   * Nowhere: a port that only the node can reach would help no pod, and a bind
   * that fails today (a wildcard listener holds the port) may work tomorrow.
   */
  fallbackAddress(): undefined {
    return undefined;
  }

  sync(changes: ListenerChanges, signal: AbortSignal): Promise<SteeringResult> {
    return this.#installation.sync(changes, signal);
  }

  isOurs(ip: string): boolean {
    return this.#installation.installed.has(`address ${ip}`) ||
      isRedirectTarget(ip);
  }

  async repair(signal: AbortSignal): Promise<SteeringResult> {
    return await this.#canObserve(signal)
      ? await this.#installation.repair(signal)
      : { written: 0, failures: this.#installation.allFailures() };
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const { runner } = this.#options;
    try {
      await this.#observe(signal);
    } catch (error) {
      // Without `ip` nothing was ever installed.
      if (isProgramMissing(error)) return;
      throw error instanceof CommandError
        ? new SteeringError(`Cannot remove routes: ${error.message}`, {
          cause: error,
        })
        : error;
    }
    const own = [...this.#installation.installed];
    const failures = await writeItems("del", own, { runner, signal });
    const [error] = failures.values();
    this.#installation.installed = new Set(failures.keys());
    if (error !== undefined) throw error;
  }

  async #observe(signal: AbortSignal): Promise<void> {
    this.#machine = await readMachine(this.#options.runner, signal);
    // What belongs to `redirect` bears the same mark.
    this.#installation.installed = withoutTargets(this.#machine.own);
  }

  /** Later than at start, not seeing is no reason to stop. */
  async #canObserve(signal: AbortSignal): Promise<boolean> {
    try {
      await explained(this.#observe(signal), cannotSteer);
      return true;
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      logger.warn("Cannot look at the machine's routes; trying again later", {
        reason: error.message,
      });
      return false;
    }
  }

  #facts() {
    return { ...this.#options.clusterFacts(), ...this.#machine };
  }

  #neededFor(ips: Iterable<string>, wanted: WantedAddresses): Set<Item> {
    const items = new Set(this.#cidrs.map((cidr): Item => `route ${cidr}`));
    for (const ip of ips) {
      // Only cluster IPs are made local.
      if (!wanted.isClusterIp(ip)) continue;
      const item = this.#itemFor(ip);
      if (item !== undefined) items.add(item);
    }
    return items;
  }

  /**
   * What makes one address bindable. IPv4 asks the routing table, so the
   * CIDR's route is enough. IPv6 asks for an address on an interface
   * (`inet6_bind` → `ipv6_chk_addr`), unless IPV6_FREEBIND or a sysctl says
   * otherwise, and Deno's sockets cannot set the one, nor do we set the other.
   */
  #itemFor(ip: string): Item | undefined {
    if (isLoopback(ip) || this.#machine.nodeAddresses.has(ip)) return undefined;
    if (ipFamily(ip) === "IPv6") return `address ${ip}`;
    return this.#isRoutedHere(ip)
      ? undefined
      : `route ${singleAddressCidr(ip)}`;
  }

  #itemBehind({ kind, ip }: ServiceAddress): Item | undefined {
    if (kind !== "ClusterIP") return undefined;
    const item = this.#itemFor(ip);
    if (item !== undefined) return item;
    const cidr = this.#cidrs.find((cidr) => cidrContains(cidr, ip));
    return cidr === undefined ? undefined : `route ${cidr}`;
  }

  /** Whether an address can be bound as things are. */
  #isLocal(ip: string): boolean {
    if (isLoopback(ip) || this.#machine.nodeAddresses.has(ip)) return true;
    return ipFamily(ip) === "IPv6" ? this.isOurs(ip) : this.#isRoutedHere(ip) ||
      this.#installation.installed.has(`route ${ip}/32`);
  }

  /** By a route of others, or that of its CIDR. */
  #isRoutedHere(ip: string): boolean {
    const local = [...this.#cidrs, ...this.#machine.localCidrs];
    return this.#machine.localIps.has(ip) ||
      local.some((cidr) => cidrContains(cidr, ip));
  }

  #isLocalCidr(cidr: string): boolean {
    return this.#machine.localCidrs.some((local) =>
      cidrContainsCidr(local, cidr)
    );
  }

  async #add(
    items: readonly Item[],
    signal: AbortSignal,
  ): Promise<Added<Item>> {
    const { runner } = this.#options;
    const failures = await writeItems("add", items, { runner, signal });
    // Somebody may have been faster: what is there now is no failure.
    if (failures.size > 0) await this.#canObserve(signal);
    return {
      added: items.filter((item) => !failures.has(item)),
      failures: new Map([...failures].filter(([item]) => this.#isNeeded(item))),
    };
  }

  #isNeeded(item: Item): boolean {
    if (this.#installation.installed.has(item)) return false;
    const target = targetOf(item);
    if (item.startsWith("address ")) {
      return !this.#machine.nodeAddresses.has(target);
    }
    return !this.#isLocalCidr(target) &&
      !this.#machine.localIps.has(target.replace(/\/32$/, ""));
  }

  #refused(items: readonly Item[]): Map<Item, SteeringError> {
    const facts = this.#facts();
    const refused = new Map<Item, SteeringError>();
    for (const item of items) {
      const target = targetOf(item);
      const cidr = target.includes("/") ? target : singleAddressCidr(target);
      const why = routeRefusal(cidr, facts);
      if (why === undefined) continue;
      const error = cannotSteer(`${target} must not become local: ${why}`);
      refused.set(item, error);
    }
    return refused;
  }

  async #remove(items: readonly Item[], signal: AbortSignal): Promise<Item[]> {
    // `ip addr del` does not look at the mark: only the machine itself can
    // tell that an address is still the one we added.
    if (!await this.#canObserve(signal)) return [];
    const { installed } = this.#installation;
    const present = items.filter((item) => installed.has(item));
    const { runner } = this.#options;
    const failures = await writeItems("del", present, { runner, signal });
    return present.filter((item) => !failures.has(item));
  }
}

/** `10.96.0.0/16` of `route 10.96.0.0/16`. */
function targetOf(item: Item): string {
  return item.slice(item.indexOf(" ") + 1);
}

function cannotSteer(why: string): SteeringError {
  return new SteeringError(`Cannot steer by route: ${why}`);
}
