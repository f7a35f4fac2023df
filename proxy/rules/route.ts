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
  canonicalCidr,
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
  type SteeringFailure,
  type SteeringResult,
} from "../steering.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "./command.ts";
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
import { WantedAddresses } from "./wanted_addresses.ts";

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
  /** The machine as last read, with `own` kept up to date by what we wrote. */
  #machine: Machine = NO_MACHINE;
  #own = new Set<Item>();
  readonly #wanted = new WantedAddresses();
  /** What an earlier run left and nobody wants is not removed yet. */
  #isUnswept = true;
  /** What could not be installed, until `repair` tries again. */
  readonly #failures = new Map<Item, SteeringError>();

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
    const cidrs = this.#options.cidrs.map((text) => {
      const cidr = canonicalCidr(text);
      if (cidr === undefined) throw cannotSteer(`"${text}" is not a CIDR`);
      return cidr;
    });
    await explained(this.#observe(signal));
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
    await explained(this.#install(this.#cidrItems(), signal));
    const failures = [...this.#failures.values()];
    const [failure] = failures;
    if (failure === undefined) return;
    if (failures.length === this.#cidrs.length) throw failure;
    // A node without IPv6 still serves the IPv4 half of a dual-stack cluster.
    logger.warn("Cannot add every Service route; going on with the others", {
      reason: failure.message,
    });
  }

  async prepare(
    added: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    for (const address of added) this.#wanted.add(address);
    const items = this.#itemsFor(new Set(added.map(({ ip }) => ip)));
    const written = await this.#install(items, signal);
    return { written, failures: this.#failuresOf(added) };
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

  async sync(
    { released }: ListenerChanges,
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    for (const address of released) this.#wanted.release(address);
    const superfluous = this.#isUnswept
      ? this.#superfluous()
      : this.#leftAt(new Set(released.map(({ ip }) => ip)));
    this.#isUnswept = false;
    const written = await this.#remove(superfluous, signal);
    return { written, failures: [] };
  }

  isOurs(ip: string): boolean {
    return this.#own.has(`address ${ip}`) || isRedirectTarget(ip);
  }

  async repair(signal: AbortSignal): Promise<SteeringResult> {
    if (!await this.#canObserve(signal)) {
      return { written: 0, failures: this.#allFailures() };
    }
    this.#failures.clear();
    let written = await this.#install(this.#allItems(), signal);
    // Before the first pass nothing is wanted, and all of it may be yet.
    if (!this.#isUnswept) {
      written += await this.#remove(this.#superfluous(), signal);
    }
    return { written, failures: this.#allFailures() };
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
    const failures = await writeItems("del", [...this.#own], {
      runner,
      signal,
    });
    const [error] = failures.values();
    this.#own = new Set(failures.keys());
    if (error !== undefined) throw error;
  }

  async #observe(signal: AbortSignal): Promise<void> {
    this.#machine = await readMachine(this.#options.runner, signal);
    // What belongs to `redirect` bears the same mark.
    this.#own = withoutTargets(this.#machine.own);
  }

  /** Later than at start, not seeing is no reason to stop. */
  async #canObserve(signal: AbortSignal): Promise<boolean> {
    try {
      await explained(this.#observe(signal));
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

  #cidrItems(): Item[] {
    return this.#cidrs.map((cidr): Item => `route ${cidr}`);
  }

  /** What must be installed for these IP addresses, as far as they are wanted. */
  #itemsFor(ips: Iterable<string>): Set<Item> {
    const items = new Set<Item>(this.#cidrItems());
    for (const ip of ips) {
      // Only cluster IPs are made local.
      if (!this.#wanted.isClusterIp(ip)) continue;
      const item = this.#itemFor(ip);
      if (item !== undefined) items.add(item);
    }
    return items;
  }

  #allItems(): Set<Item> {
    return this.#itemsFor(this.#wanted.ips);
  }

  /** What is still installed for IP addresses, and no longer wanted. */
  #leftAt(ips: ReadonlySet<string>): Item[] {
    const wanted = this.#itemsFor(ips);
    return [...ips].flatMap((ip): Item[] => [
      `address ${ip}`,
      `route ${singleAddressCidr(ip)}`,
    ]).filter((item) => this.#own.has(item) && !wanted.has(item));
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

  /** Whether an address can be bound as things are. */
  #isLocal(ip: string): boolean {
    if (isLoopback(ip) || this.#machine.nodeAddresses.has(ip)) return true;
    return ipFamily(ip) === "IPv6"
      ? this.isOurs(ip)
      : this.#isRoutedHere(ip) || this.#own.has(`route ${ip}/32`);
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

  /** Adds what is missing and not known to fail; returns how much was added. */
  async #install(
    wanted: Iterable<Item>,
    signal: AbortSignal,
  ): Promise<number> {
    let missing = [...wanted].filter((item) =>
      !this.#own.has(item) && !this.#failures.has(item)
    );
    if (missing.length === 0) return 0;
    missing = this.#withoutRefused(missing);
    const { runner } = this.#options;
    const failures = await writeItems("add", missing, { runner, signal });
    // Somebody may have been faster: what is there now is no failure.
    if (failures.size > 0) await this.#canObserve(signal);
    let added = 0;
    for (const item of missing) {
      const error = failures.get(item);
      if (error === undefined) added++;
      else if (this.#isNeeded(item)) this.#failures.set(item, error);
      if (error === undefined) this.#own.add(item);
    }
    return added;
  }

  #isNeeded(item: Item): boolean {
    if (this.#own.has(item)) return false;
    const target = item.slice(item.indexOf(" ") + 1);
    if (item.startsWith("address ")) {
      return !this.#machine.nodeAddresses.has(target);
    }
    return !this.#isLocalCidr(target) &&
      !this.#machine.localIps.has(target.replace(/\/32$/, ""));
  }

  #withoutRefused(items: readonly Item[]): Item[] {
    const facts = this.#facts();
    return items.filter((item) => {
      const target = item.slice(item.indexOf(" ") + 1);
      const cidr = target.includes("/") ? target : singleAddressCidr(target);
      const why = routeRefusal(cidr, facts);
      if (why === undefined) return true;
      this.#failures.set(
        item,
        cannotSteer(`${target} must not become local: ${why}`),
      );
      return false;
    });
  }

  /** What is installed and nobody wants; walks everything. */
  #superfluous(): Item[] {
    const wanted = this.#allItems();
    return [...this.#own].filter((item) => !wanted.has(item));
  }

  /** Returns how much was removed. What could not be is left to `repair`. */
  async #remove(items: readonly Item[], signal: AbortSignal): Promise<number> {
    if (items.length === 0) return 0;
    // `ip addr del` does not look at the mark: only the machine itself can
    // tell that an address is still the one we added.
    if (!await this.#canObserve(signal)) return 0;
    const present = items.filter((item) => this.#own.has(item));
    const { runner } = this.#options;
    const failures = await writeItems("del", present, { runner, signal });
    for (const item of present) {
      if (!failures.has(item)) this.#own.delete(item);
    }
    return present.length - failures.size;
  }

  #failuresOf(addresses: Iterable<ServiceAddress>): SteeringFailure[] {
    if (this.#failures.size === 0) return [];
    return [...addresses].flatMap((address) => {
      const error = address.kind === "ClusterIP"
        ? this.#failureOf(address.ip)
        : undefined;
      return error === undefined ? [] : [{ address, error }];
    });
  }

  #allFailures(): SteeringFailure[] {
    return this.#failuresOf(this.#wanted);
  }

  #failureOf(ip: string): SteeringError | undefined {
    const item = this.#itemFor(ip);
    if (item !== undefined) return this.#failures.get(item);
    const cidr = this.#cidrs.find((cidr) => cidrContains(cidr, ip));
    return cidr === undefined ? undefined : this.#failures.get(`route ${cidr}`);
  }
}

function cannotSteer(why: string): SteeringError {
  return new SteeringError(`Cannot steer by route: ${why}`);
}

/** A program that cannot be run is a reason why this strategy cannot work. */
async function explained<T>(work: Promise<T>): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const steering = cannotSteer(error.message);
    steering.cause = error;
    throw steering;
  }
}
