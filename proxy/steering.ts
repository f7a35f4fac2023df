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

/** One address that clients use: a ClusterIP and one of its ports. */
export interface ServiceAddress {
  /** Canonical, without brackets. */
  readonly ip: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
  /** The ServicePort as people read it: `default/web:http`. */
  readonly name: string;
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
  /** Empty if every address is steered. */
  readonly failures: readonly SteeringFailure[];
}

/**
 * A strategy. What the proxier may rely on, and what it owes:
 *
 * 1. `start` once, then any number of passes, each `prepare` → `bindAddress`
 *    and opening listeners → `sync` → closing listeners no longer wanted.
 *    Calls never overlap: the caller awaits each.
 * 2. `prepare` and `sync` are given everything that is wanted, every time, and
 *    write differences only: a pass that changes nothing costs no system call.
 * 3. One address that cannot be steered never stops the others: it is in
 *    `failures` of every pass that names it, and `repair` tries it again.
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
   * Before listeners are opened: makes the addresses of this pass bindable.
   *
   * The listener of an address among the failures may still be opened: it
   * works if the address happens to be local.
   */
  prepare(
    addresses: readonly ServiceAddress[],
    signal: AbortSignal,
  ): Promise<SteeringResult>;

  /** Where the listener for a Service address binds: itself, or a proxy port. */
  bindAddress(address: ServiceAddress): ListenAddress;

  /**
   * Where it binds instead, after `bindAddress` failed with this error of the
   * system. `undefined`: nowhere; show the error, and try again later.
   */
  fallbackAddress(
    address: ServiceAddress,
    error: unknown,
  ): ListenAddress | undefined;

  /**
   * After listeners are open: steers these addresses to them, and no others.
   * A Service address without a binding is given back, and its connections may
   * be cut then: name it until they have drained.
   */
  sync(
    bindings: readonly PortBinding[],
    signal: AbortSignal,
  ): Promise<SteeringResult>;

  /**
   * Looks at the machine and puts back what somebody removed since the last
   * pass. Meant to be called once in a sync period, and when a bind fails with
   * `AddrNotAvailable`.
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
