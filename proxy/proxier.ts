/**
 * Makes the desired state so: keeps a `PortProxy` for every ServicePort, opens
 * and closes listeners by difference, settles who has an address that several
 * want, and has the steering strategy lead packets to the listeners. Everything
 * it decides follows from the changes it is given; it calls nothing upstream,
 * and a change costs the work of what changed.
 *
 * An unchanged Service keeps its listeners and its connections. A Service that
 * is gone loses its listeners at once; its connections go on to their end, as
 * they do under upstream's modes (fact 0.5).
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { getLogger } from "@std/log";
import { AddressClaims } from "./address_claims.ts";
import type { ServicePortState, ServiceState } from "./desired_state.ts";
import { NO_NODE_ADDRESSES, type NodeAddresses } from "./node_addresses.ts";
import { PortProxy } from "./port_proxy.ts";
import { SharedListeners } from "./shared_listeners.ts";
import type { StateChanges } from "./state_tracker.ts";
import { SteeringPass } from "./steering_pass.ts";
import {
  SteeringWriter,
  type SteeringWriterOptions,
} from "./steering_writer.ts";
import { Turns } from "./turns.ts";

const logger = getLogger("proxy");

/**
 * Service ports that are opened in one sync with a line in the log for each.
 * 10,000 lines are for nobody to read, and were a sixth of a start's time.
 */
const SAID_EACH_MAX = 100;

/** A ServicePort that is no more, and whose connections may go on. */
interface Draining {
  readonly drained: Promise<void>;
  readonly cut: AbortController;
}

export type ProxierOptions = SteeringWriterOptions;

export class Proxier {
  readonly #options: ProxierOptions;
  #node = NO_NODE_ADDRESSES;
  readonly #ports = new Map<string, PortProxy>();
  /** Service key → keys of its ServicePorts. */
  readonly #portsOf = new Map<string, ReadonlySet<string>>();
  /** Service key → what was said about it. */
  readonly #problemsOf = new Map<string, readonly string[]>();
  readonly #claims = new AddressClaims();
  readonly #pass = new SteeringPass();
  readonly #writer: SteeringWriter;
  readonly #shared: SharedListeners;
  readonly #incomplete = new Set<PortProxy>();
  readonly #unsteered = new Set<PortProxy>();
  /** Gone from the desired state; their connections have not all ended. */
  readonly #draining = new Map<PortProxy, Draining>();
  /** As they should be, and could not be made; by key. */
  readonly #broken = new Map<string, ServicePortState>();
  /** By key, as last said. */
  readonly #brokenReasons = new Map<string, string>();

  constructor(options: ProxierOptions) {
    this.#options = options;
    this.#shared = new SharedListeners(options.engine);
    this.#writer = new SteeringWriter(options, this.#pass);
  }

  /**
   * When rules may be written that had to wait, milliseconds since 1970: a sync
   * is due then. Listeners and endpoints never wait.
   */
  get writesDueAt(): number | undefined {
    return this.#writer.dueAt;
  }

  /** Every ServicePort, for status and tests. */
  get ports(): Iterable<PortProxy> {
    return this.#ports.values();
  }

  /** ServicePorts that are gone and have open connections. */
  get draining(): Iterable<PortProxy> {
    return this.#draining.keys();
  }

  /** Address key → why packets for it do not come. */
  get steeringFailures(): ReadonlyMap<string, string> {
    return this.#writer.failures;
  }

  /**
   * One sync. Listeners that nobody wants are closed before any is opened, so
   * that an address can change hands within one sync. Whatever throws, the
   * changes are taken; the next sync goes on with what could not be done.
   *
   * @returns `again` if something that is wanted could not be had
   */
  async sync(
    changes: StateChanges,
    signal: AbortSignal,
  ): Promise<"done" | "again"> {
    const turns = new Turns();
    const broken = [...this.#broken];
    for (const key of changes.removed) {
      this.#replacePorts(key, []);
      this.#sayProblems(key, []);
      if (turns.isOver) await turns.rest();
    }
    for (const { key, ports, problems } of changes.changed) {
      this.#replacePorts(key, ports);
      this.#sayProblems(key, problems);
      if (turns.isOver) await turns.rest();
    }
    for (const [key, state] of broken) {
      if (this.#broken.get(key) === state) this.#tryUpdatePort(state);
    }
    const result = () =>
      this.#incomplete.size + this.#broken.size > 0 ? "again" : "done";
    if (this.#incomplete.size === 0 && this.#writer.isIdle) return result();
    const { steering } = this.#options;
    await this.#writer.prepare(signal);
    const isOneOfMany = this.#incomplete.size > SAID_EACH_MAX;
    let opened = 0;
    for (const port of [...this.#incomplete]) {
      opened += await port.open(steering, { isOneOfMany });
      this.#note(port);
      if (turns.isOver) await turns.rest();
    }
    if (isOneOfMany && opened > 0) {
      logger.info("added many service ports; -v=4 names each", {
        listeners: opened,
      });
    }
    this.#shared.start();
    await this.#writer.write(signal);
    return result();
  }

  /**
   * Takes the addresses of the own node as they are now: NodePorts follow
   * them, with the next sync, and so does who counts as a client of the
   * cluster. Costs nothing where they are the same.
   */
  setNode(node: NodeAddresses): void {
    if (isDeepStrictEqual(node, this.#node)) return;
    this.#node = node;
    this.#writer.setNodeSources(node.clusterSources);
    for (const port of this.#ports.values()) this.#tryUpdatePort(port.state);
  }

  /** Puts back steering that somebody removed; once in a sync period. */
  async repair(signal: AbortSignal): Promise<void> {
    const { isMoved } = await this.#writer.repair(signal);
    if (isMoved) {
      for (const port of this.#ports.values()) {
        port.leaveNamespaces(this.#options.steering);
        this.#note(port);
      }
    }
    for (const port of [...this.#unsteered]) {
      port.reconsider();
      this.#note(port);
    }
  }

  #replacePorts(serviceKey: string, next: ServiceState["ports"]): void {
    const keys = new Set(next.map((state) => state.servicePort.key));
    for (const key of this.#portsOf.get(serviceKey) ?? []) {
      if (!keys.has(key)) this.#removePort(key);
    }
    for (const state of next) this.#tryUpdatePort(state);
    if (keys.size === 0) this.#portsOf.delete(serviceKey);
    else this.#portsOf.set(serviceKey, keys);
  }

  /** One that cannot be made is tried again with each sync. */
  #tryUpdatePort(state: ServicePortState): void {
    const { key, text } = state.servicePort;
    try {
      this.#updatePort(state);
      this.#broken.delete(key);
      this.#brokenReasons.delete(key);
    } catch (error) {
      this.#broken.set(key, state);
      const reason = String(error);
      if (this.#brokenReasons.get(key) === reason) return;
      this.#brokenReasons.set(key, reason);
      logger.error(`Cannot serve ${text}; trying again`, { cause: error });
    }
  }

  #updatePort(state: ServicePortState): void {
    const { key } = state.servicePort;
    const known = this.#ports.get(key);
    const before = known?.addresses ?? [];
    known?.update(state, this.#node);
    const port = known ??
      new PortProxy(state, {
        engine: this.#options.engine,
        node: this.#node,
        pass: this.#pass,
        shared: this.#shared,
      });
    this.#ports.set(key, port);
    // Held before released, so that what stays is not given back.
    const { addresses } = port;
    for (const address of addresses) this.#pass.hold(address);
    for (const address of before) this.#pass.release(address);
    this.#settle(this.#claims.set(state.servicePort, addresses));
    this.#note(port);
  }

  #removePort(key: string): void {
    this.#broken.delete(key);
    this.#brokenReasons.delete(key);
    const port = this.#ports.get(key);
    if (port === undefined) return;
    this.#ports.delete(key);
    this.#incomplete.delete(port);
    this.#unsteered.delete(port);
    // One for each: a signal looks through all its listeners for every new one,
    // which with 10,000 Services took seconds.
    const cut = new AbortController();
    const closed = port.close(cut.signal).catch((error) => {
      logger.error("Cannot close a service port", { key, cause: error });
    });
    const drained = closed.finally(() => {
      this.#draining.delete(port);
      // A connection that goes on needs its address as long as it lasts; now
      // it can be given back, with the next sync.
      for (const address of port.addresses) this.#pass.release(address);
    });
    this.#draining.set(port, { drained, cut });
    this.#settle(this.#claims.set(port.state.servicePort, []));
  }

  /** Tells every claimant of these addresses whether it has them. */
  #settle(addressKeys: readonly string[]): void {
    for (const addressKey of addressKeys) {
      const [winner, ...losers] = this.#claims.claimants(addressKey);
      if (winner === undefined) continue;
      for (const loser of losers) {
        const port = this.#ports.get(loser.key);
        port?.deny(addressKey, winner);
        if (port !== undefined) this.#note(port);
      }
      const port = this.#ports.get(winner.key);
      port?.grant(addressKey);
      if (port !== undefined) this.#note(port);
    }
  }

  /** Files a port under what there is to do for it. */
  #note(port: PortProxy): void {
    if (port.isIncomplete) this.#incomplete.add(port);
    else this.#incomplete.delete(port);
    if (port.isUnsteered) this.#unsteered.add(port);
    else this.#unsteered.delete(port);
  }

  /** Once for each, and again when somebody writes it again. */
  #sayProblems(serviceKey: string, problems: readonly string[]): void {
    const said = this.#problemsOf.get(serviceKey) ?? [];
    for (const problem of problems) {
      if (said.includes(problem)) continue;
      logger.warn(problem, { service: serviceKey });
    }
    if (problems.length === 0) this.#problemsOf.delete(serviceKey);
    else this.#problemsOf.set(serviceKey, problems);
  }

  /**
   * Stops accepting everywhere, then waits until every connection has ended or
   * `signal` is aborted, which cuts the rest. Steering stays.
   */
  async close(signal: AbortSignal): Promise<void> {
    this.#shared.close();
    for (const key of [...this.#portsOf.keys()]) this.#replacePorts(key, []);
    const draining = [...this.#draining.values()];
    const cut = () => draining.forEach((each) => each.cut.abort());
    if (signal.aborted) cut();
    signal.addEventListener("abort", cut, { once: true });
    await Promise.all(draining.map(({ drained }) => drained));
    signal.removeEventListener("abort", cut);
  }
}
