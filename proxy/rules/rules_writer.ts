/**
 * What the `redirect` strategy needs of a program that keeps rules in the
 * kernel: one writer for each IP family, whatever the program is. Redirections
 * go in; how they are spelt is the writer's own affair.
 *
 * @module
 */
import type { IpFamily } from "../ip.ts";
import type { SteeringError } from "../steering.ts";
import type { Redirection } from "./redirection.ts";

/** How far the kernel and the program go. */
export interface RulesAbilities {
  /**
   * Packets can be sent to an address of ours. If not, only to whatever
   * address of the node they came in by (REDIRECT), and listeners have to be
   * bound to the wildcard address.
   */
  readonly canChooseAddress: boolean;
}

/** What is in the kernel and carries our mark. */
export interface InstalledRules {
  /** By `redirectionKey`; only those that are there as we would write them. */
  readonly redirections: ReadonlyMap<string, Redirection>;
  /**
   * The proxy ports that rules of an earlier run lead to, by `redirectionKey`:
   * those of `redirections`, and those of rules in another form.
   */
  readonly ports: ReadonlyMap<string, number>;
}

export interface RulesChange {
  readonly add: readonly Redirection[];
  /** As they are installed. */
  readonly remove: readonly Redirection[];
}

export interface RulesResult {
  /** How many rules and chains were added or removed. */
  readonly written: number;
  /** By `redirectionKey`: what the kernel did not take. */
  readonly refused: ReadonlyMap<string, SteeringError>;
}

/**
 * Contract:
 * 1. `probe`, `use` and `read`, in this order, before any `apply`.
 * 2. `apply` is one transaction: all of it, or nothing. Where the kernel takes
 *    only some of the redirections, those it does not take are left out, and
 *    named; the others are installed.
 * 3. `apply` writes what it is given, what the last `read` found missing of the
 *    chains around it, and takes away what `read` found in them that is no
 *    redirection as we would write it. Nothing else of the machine is changed.
 * 4. Where a packet for a Service address is led, no packet comes that was
 *    sent there directly from another host, as far as the kernel can tell the
 *    two apart; `description` says so if it cannot.
 */
export interface RulesWriter {
  readonly family: IpFamily;
  /** The program, and what it does without on this machine: `iptables-nft 1.8.9`. */
  readonly description: string;

  /**
   * Whether something of ours is there, whichever run left it. Needs no other
   * call before; `false` where nobody can tell, for want of the program or the
   * privilege.
   */
  isInstalled(signal: AbortSignal): Promise<boolean>;

  /**
   * Loads rules into a chain that no packet comes through, and removes it.
   *
   * @throws {SteeringError} if no rule of ours can be loaded; one sentence
   *   says why
   */
  probe(signal: AbortSignal): Promise<RulesAbilities>;

  /**
   * Says where packets are sent.
   *
   * @param target an address of the node, or `undefined`: whatever address
   *   they came in by
   */
  use(target: string | undefined, signal: AbortSignal): Promise<void>;

  /** @throws {SteeringError} */
  read(signal: AbortSignal): Promise<InstalledRules>;

  /** @throws {SteeringError} if nothing could be written */
  apply(change: RulesChange, signal: AbortSignal): Promise<RulesResult>;

  /**
   * Removes every rule and chain that a writer of this kind could have
   * installed. Needs no other call before; twice in a row is fine, and so is a
   * machine without the program.
   *
   * @throws {SteeringError} if something of ours is still there
   */
  cleanup(signal: AbortSignal): Promise<void>;
}
