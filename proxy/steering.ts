/**
 * How packets for Service addresses come to our listeners, as the core sees it:
 * the interface that every strategy in `rules/` implements and the proxier
 * drives. Which strategy it is, only the wiring knows.
 *
 * It speaks of addresses and ports and has never heard of Services' endpoints,
 * or of the engine that moves the bytes.
 *
 * @module
 */
import type { ListenAddress } from "./engine/engine.ts";

export type SteeringName = "portal" | "redirect" | "route" | "none";

/** What a Service address is; each kind comes to the machine in its own way. */
export type AddressKind =
  | "ClusterIP"
  /** On an address of the node: local by nature. */
  | "NodePort"
  | "ExternalIP"
  | "LoadBalancerIP";

/** One address that clients use: an IP address and a port. */
export interface ServiceAddress {
  readonly kind: AddressKind;
  /** Canonical, without brackets. */
  readonly ip: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
  /** The ServicePort as people read it: `default/web:http`. */
  readonly name: string;
}

/** Where the listener for a Service address binds. */
export interface BindAddress extends ListenAddress {
  /**
   * It is the same for many Service addresses; a connection's original
   * destination tells them apart. Only for engines that can ask for that.
   */
  readonly isShared?: true;
}

/** A Service address and the listener that is open for it. */
export interface PortBinding {
  readonly address: ServiceAddress;
  /** What was really bound: its port is known only once it is open. */
  readonly listen: ListenAddress;
}

/** One Service address that could not be steered; the others were. */
export interface SteeringFailure {
  readonly address: ServiceAddress;
  readonly error: SteeringError;
}

export interface SteeringResult {
  /** How many routes, addresses or rules were added or removed. */
  readonly written: number;
  /**
   * Listeners in a namespace (see `ListenAddress`) are where nobody comes any
   * more: they have to be opened again. Only of `repair`.
   */
  readonly isMoved?: boolean;
  /** Of the addresses this call was about, those that are not steered. */
  readonly failures: readonly SteeringFailure[];
}

/** What became of listeners and addresses since the last pass. */
export interface ListenerChanges {
  /** Listeners that are open now; one for each address at most. */
  readonly opened: readonly PortBinding[];
  /** Addresses that have no listener any more, and are still wanted. */
  readonly closed: readonly ServiceAddress[];
  /** Addresses that nobody wants any more; their connections have ended. */
  readonly released: readonly ServiceAddress[];
}

/**
 * A strategy. What the proxier may rely on, and what it owes:
 *
 * 1. `start` once, then any number of passes, each `prepare` → `bindAddress`
 *    and opening listeners → `sync`. Calls never overlap: the caller awaits
 *    each.
 * 2. `prepare` and `sync` are given differences, and their cost follows those:
 *    one new Service among 10,000 is the work of one. Two addresses are the
 *    same if their IP, port and protocol are. An address is named to `prepare`
 *    when somebody first wants it (and again if its kind changes), and among
 *    the released when nobody does. Until it is among the opened it has no
 *    listener, as after it was closed.
 * 3. One address that cannot be steered never stops the others: it is among
 *    the failures of the pass that named it, and of every `repair`, which tries
 *    it again, until it is steered or released. What a call named is not
 *    forgotten if the call rejects: `repair` makes up for it.
 * 4. Everything installed carries our mark. What an earlier run left is
 *    adopted by `start`; what nobody wants any more is removed by `sync`, so
 *    that a restart has no gap.
 * 5. Nothing that does not carry our mark is ever changed or removed.
 * 6. There is nothing to close: stopping leaves steering in place for the next
 *    start. Only `cleanup` takes it away.
 *
 * Every method that waits rejects with `signal.reason` when aborted; what it
 * wrote until then is found again by the next `start`.
 */
export interface Steering {
  readonly name: SteeringName;
  /** One line for people: what it does on this machine. Complete after `start`. */
  readonly description: string;

  /**
   * Makes the machine ready, as far as it can be before any Service is known.
   *
   * @throws {SteeringError} if the strategy cannot work here; then nothing
   *   was changed
   */
  start(signal: AbortSignal): Promise<void>;

  /**
   * Before listeners are opened: makes these addresses bindable, and those of
   * earlier passes stay so.
   *
   * The listener of an address among the failures may still be opened: it
   * works if the address happens to be local.
   */
  prepare(
    added: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult>;

  /**
   * Where the listener for a Service address binds: itself, or a proxy port.
   * `undefined`: nowhere, since packets for it do not come here. That lasts
   * until a `repair` may have found otherwise; asking costs no system call.
   */
  bindAddress(address: ServiceAddress): BindAddress | undefined;

  /**
   * Where it binds instead, after `bindAddress` failed with this error of the
   * system. `undefined`: nowhere; show the error, and try again later.
   */
  fallbackAddress(
    address: ServiceAddress,
    error: unknown,
  ): BindAddress | undefined;

  /**
   * After listeners are open: steers addresses to them. A closed one refuses
   * its clients from now on; a released one is given back.
   */
  sync(changes: ListenerChanges, signal: AbortSignal): Promise<SteeringResult>;

  /**
   * Whether the machine has this address only because the strategy gave it
   * one: then it is no address of the node.
   */
  isOurs(ip: string): boolean;

  /**
   * Looks at the machine and puts back what somebody removed since the last
   * pass; may walk everything. Meant to be called once in a sync period.
   *
   * @returns every failure there is
   */
  repair(signal: AbortSignal): Promise<SteeringResult>;

  /**
   * Removes everything it could have installed, whichever run did. A second
   * call finds nothing and succeeds. Needs no `start`.
   *
   * @throws {SteeringError} if something of ours is still there
   */
  cleanup(signal: AbortSignal): Promise<void>;
}

/** A strategy, or one address of it, does not work; one sentence says why. */
export class SteeringError extends Error {
  override readonly name = "SteeringError";
}
