/**
 * Steering by a network namespace of our own that every Service address belongs
 * to: the node routes the Service CIDR into it, and the listeners are there. No
 * rule, no NAT, and no port that a process of the node could have taken.
 *
 * Service addresses go in; routes come out, and the namespace in which each
 * listener opens. It does not know which ports are served: inside, the kernel
 * refuses the others by itself.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ListenAddress, NamespaceOpener } from "../engine/engine.ts";
import {
  cidrContains,
  cidrContainsCidr,
  type IpFamily,
  ipFamily,
  isLoopback,
  singleAddressCidr,
} from "../ip.ts";
import { TCP_MIGRATE_REQ } from "../port_sharing.ts";
import {
  type ListenerChanges,
  type ServiceAddress,
  type Steering,
  SteeringError,
  type SteeringResult,
} from "../steering.ts";
import type { CommandRunner } from "./command.ts";
import { type Added, Installation } from "./installation.ts";
import { type Machine, NO_MACHINE, readMachine } from "./ip_route.ts";
import {
  ensurePortal,
  NONLOCAL_BIND,
  PORTAL_PATH,
  type PortalState,
  readPortal,
  removePortal,
  writeRoutes,
} from "./portal_namespace.ts";
import { PROBE_TARGETS, type ProbePortal } from "./portal_probe.ts";
import { type ClusterFacts, routeRefusal } from "./route_refusal.ts";
import { canonicalCidrs, explained } from "./start_errors.ts";
import type { WantedAddresses } from "./wanted_addresses.ts";

const logger = getLogger("rules");

export interface PortalOptions {
  /** The Service CIDRs; empty if unknown: then each address gets a route. */
  readonly cidrs: readonly string[];
  /** Asked again before anything new is led away. */
  readonly clusterFacts: () => ClusterFacts;
  readonly runner: CommandRunner;
  /** `Deno.build.os`. */
  readonly os: string;
  readonly namespaces: NamespaceOpener;
  readonly probe: ProbePortal;
  /**
   * Whether a node that forwards nothing to the portal is a reason not to use
   * it: then pods cannot reach a Service. Otherwise it is only said.
   */
  readonly mustForward: boolean;
}

export class PortalSteering implements Steering {
  readonly name = "portal";
  readonly #options: PortalOptions;
  /** Service CIDRs that are not local by themselves. */
  #cidrs: readonly string[] = [];
  #machine: Machine = NO_MACHINE;
  /** CIDRs that are led into the namespace and local there. */
  readonly #installation = new Installation<string>({
    neededFor: (ips, wanted) => this.#neededFor(ips, wanted),
    onlyFor: (ip) => [singleAddressCidr(ip)],
    behind: (address) =>
      this.#isOnNode(address) ? undefined : this.#cidrOf(address.ip),
    refused: (cidrs) => this.#refused(cidrs),
    add: (cidrs, signal) => this.#add(cidrs, signal),
    remove: (cidrs, signal) => this.#remove(cidrs, signal),
  });

  constructor(options: PortalOptions) {
    this.#options = options;
  }

  get description(): string {
    const { cidrs } = this.#options;
    const what = cidrs.length === 0
      ? "each Service address has a route"
      : `${cidrs.join(", ")} has a route`;
    return `${what} into a network namespace of our own`;
  }

  /** As `Steering.start`; refuses a CIDR that would cut the node off. */
  async start(signal: AbortSignal): Promise<void> {
    const { os, runner, namespaces } = this.#options;
    if (os !== "linux") {
      throw cannotSteer(`network namespaces need Linux, and this is ${os}`);
    }
    const whyNot = namespaces.whyNot();
    if (whyNot !== undefined) {
      throw cannotSteer(`listeners cannot be opened in a namespace: ${whyNot}`);
    }
    const cidrs = canonicalCidrs(this.#options.cidrs, cannotSteer);
    const before = await explained(this.#observe(signal), cannotSteer);
    this.#cidrs = cidrs.filter((cidr) => !this.#isLocalCidr(cidr));
    for (const cidr of this.#cidrs) {
      const why = routeRefusal(cidr, this.#facts());
      if (why !== undefined) {
        throw cannotSteer(`${cidr} must not be led away: ${why}`);
      }
    }
    try {
      await explained(this.#begin(before, signal), cannotSteer);
    } catch (error) {
      if (!before.hasNamespace && !before.hasPair && !before.isNameTaken) {
        await removePortal({ runner, signal });
      }
      throw error;
    }
  }

  async #begin(before: PortalState, signal: AbortSignal): Promise<void> {
    const { runner, probe, mustForward, namespaces } = this.#options;
    await this.#ensure(before, signal);
    await this.#installation.begin(signal);
    const { failures } = this.#installation;
    const failed = this.#cidrs.filter((cidr) => failures.has(cidr));
    const [first] = failed;
    if (first !== undefined) {
      const error = failures.get(first);
      if (failed.length === this.#cidrs.length) throw error;
      // A node without IPv6 still serves the IPv4 half of a dual-stack cluster.
      logger.warn("Cannot route every Service CIDR; going on with the others", {
        reason: error?.message,
      });
    }
    for (const family of this.#families()) {
      const options = { runner, signal, namespaces };
      const { node, forwarded } = await probe(family, options);
      if (node !== undefined) throw cannotSteer(node);
      if (forwarded === undefined) continue;
      if (mustForward) throw cannotSteer(forwarded);
      logger.warn("Pods may not reach Services through the portal", {
        reason: forwarded,
      });
    }
  }

  /** Families of the CIDRs that are led in; without any, IPv4. */
  #families(): Set<IpFamily> {
    const { failures } = this.#installation;
    const usable = this.#cidrs.filter((cidr) => !failures.has(cidr));
    return new Set(usable.length === 0 ? ["IPv4"] : usable.map(ipFamily));
  }

  prepare(
    added: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    return this.#installation.prepare(added, signal);
  }

  /** In the namespace; what the node has itself is bound on the node. */
  bindAddress(address: ServiceAddress): ListenAddress | undefined {
    const { ip, port } = address;
    if (this.#isOnNode(address)) return { ip, port };
    const cidr = this.#cidrOf(ip);
    return this.#installation.installed.has(cidr)
      ? { ip, port, namespace: PORTAL_PATH }
      : undefined;
  }

  /** Nowhere: in the namespace nobody else listens. */
  fallbackAddress(): undefined {
    return undefined;
  }

  sync(changes: ListenerChanges, signal: AbortSignal): Promise<SteeringResult> {
    return this.#installation.sync(changes, signal);
  }

  /** None: no interface of the node gets an address. */
  isOurs(): boolean {
    return false;
  }

  async repair(signal: AbortSignal): Promise<SteeringResult> {
    let made = 0;
    let isMoved = false;
    try {
      const state = await explained(this.#observe(signal), cannotSteer);
      made += await this.#ensure(state, signal);
      // Our sockets keep the one alive whose name is gone.
      isMoved = !state.hasNamespace;
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      logger.warn("Cannot look after the portal; trying again later", {
        reason: error.message,
      });
      return { written: made, failures: this.#installation.allFailures() };
    }
    const { written, failures } = await this.#installation.repair(signal);
    return { written: made + written, isMoved, failures };
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const { os, runner } = this.#options;
    if (os !== "linux") return;
    await removePortal({ runner, signal });
    this.#installation.installed.clear();
  }

  async #observe(signal: AbortSignal): Promise<PortalState> {
    const { runner } = this.#options;
    this.#machine = await readMachine(runner, signal);
    const state = await readPortal({ runner, signal });
    this.#installation.installed = state.hasPair
      ? new Set([...state.routed].filter((cidr) => state.local.has(cidr)))
      : new Set();
    return state;
  }

  async #ensure(state: PortalState, signal: AbortSignal): Promise<number> {
    const { runner, namespaces } = this.#options;
    const made = await ensurePortal(state, { runner, signal });
    // The namespace is ours, and so are its settings. Without IPv6, or on an
    // older kernel, some are not there.
    for (const file of [NONLOCAL_BIND, TCP_MIGRATE_REQ]) {
      try {
        namespaces.writeIn(PORTAL_PATH, file, "1");
      } catch (error) {
        if (!(error instanceof Error)) throw error;
        logger.debug("Cannot set a kernel parameter of the portal", {
          file,
          reason: error.message,
        });
      }
    }
    return made;
  }

  #facts() {
    return { ...this.#options.clusterFacts(), ...this.#machine };
  }

  /** What is there whatever Services there are. */
  #fixed(): Set<string> {
    const probed = [...new Set(["IPv4", ...this.#cidrs.map(ipFamily)])]
      .map((family) =>
        singleAddressCidr(PROBE_TARGETS[family as IpFamily].portal)
      );
    return new Set([...this.#cidrs, ...probed]);
  }

  #isOnNode({ kind, ip }: Pick<ServiceAddress, "kind" | "ip">): boolean {
    return kind === "NodePort" || this.#isLocal(ip);
  }

  #isLocal(ip: string): boolean {
    const { nodeAddresses, localIps, localCidrs } = this.#machine;
    return isLoopback(ip) || nodeAddresses.has(ip) || localIps.has(ip) ||
      localCidrs.some((cidr) => cidrContains(cidr, ip));
  }

  #isLocalCidr(cidr: string): boolean {
    return this.#machine.localCidrs.some((local) =>
      cidrContainsCidr(local, cidr)
    );
  }

  /** What leads this address into the namespace. */
  #cidrOf(ip: string): string {
    return this.#cidrs.find((cidr) => cidrContains(cidr, ip)) ??
      singleAddressCidr(ip);
  }

  #neededFor(ips: Iterable<string>, wanted: WantedAddresses): Set<string> {
    const cidrs = this.#fixed();
    for (const ip of ips) {
      if (wanted.isSteered(ip) && !this.#isLocal(ip)) {
        cidrs.add(this.#cidrOf(ip));
      }
    }
    return cidrs;
  }

  #refused(cidrs: readonly string[]): Map<string, SteeringError> {
    const facts = this.#facts();
    const refused = new Map<string, SteeringError>();
    for (const cidr of cidrs) {
      const why = routeRefusal(cidr, facts);
      if (why === undefined) continue;
      refused.set(cidr, cannotSteer(`${cidr} must not be led away: ${why}`));
    }
    return refused;
  }

  async #add(
    cidrs: readonly string[],
    signal: AbortSignal,
  ): Promise<Added<string>> {
    const { runner } = this.#options;
    const reasons = await writeRoutes("add", cidrs, { runner, signal });
    const failures = [...reasons].map(([cidr, why]) =>
      [cidr, cannotSteer(`no route for ${cidr}: ${why}`)] as const
    );
    return {
      added: cidrs.filter((cidr) => !reasons.has(cidr)),
      failures: new Map(failures),
    };
  }

  async #remove(
    cidrs: readonly string[],
    signal: AbortSignal,
  ): Promise<string[]> {
    const { runner } = this.#options;
    const failures = await writeRoutes("del", cidrs, { runner, signal });
    return cidrs.filter((cidr) => !failures.has(cidr));
  }
}

function cannotSteer(why: string): SteeringError {
  return new SteeringError(`Cannot steer by portal: ${why}`);
}
