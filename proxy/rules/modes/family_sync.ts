/**
 * One IP family of a kernel mode: what waits to be written, whether all of it
 * has to be, and how the last write went.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { getLogger } from "@std/log";
import type { IpFamily } from "../../ip.ts";
import { KernelCounts } from "../../kernel_counts.ts";
import type { SyncTimes } from "../../sync_runner.ts";
import { CommandError, type CommandRunner } from "../command.ts";
import { FlowCleaner } from "./flow_cleaner.ts";
import type { KernelProgrammer, ProgramScope } from "./kernel_programmer.ts";
import type { KernelNode, KernelProxierOptions } from "./kernel_proxier.ts";
import { type ModeInput, modeInput } from "./mode_input.ts";

const logger = getLogger("rules");

/** How long until everything is written without a reason (fact 9.5). */
const FULL_SYNC_PERIOD_MS = 3_600_000;

type Options = Omit<KernelProxierOptions, "runner"> & {
  readonly runner: CommandRunner;
};

export class FamilySync {
  readonly #programmer: KernelProgrammer;
  readonly #options: Options;
  readonly counts = new KernelCounts();
  /** Keys of Services that no successful write has taken up. */
  readonly #pending = new Set<string>();
  #needsAll = true;
  #fullAt = 0;
  #updatedAt: number;
  /** The request that the first of a row of failures was for. */
  #failingSince: number | undefined;
  #saidFailure = "";
  /** What was written last, but for the ports. */
  #written: Omit<ModeInput, "ports" | "healthChecks"> | undefined;
  readonly #flows: FlowCleaner;

  constructor(programmer: KernelProgrammer, options: Options) {
    this.#programmer = programmer;
    this.#options = options;
    this.#updatedAt = options.clock.now();
    const { state, runner } = options;
    this.#flows = new FlowCleaner({ family: this.family, state, runner });
  }

  get family(): IpFamily {
    return this.#programmer.family;
  }

  times(runner: SyncTimes): SyncTimes {
    const queuedAt = this.#failingSince ?? runner.queuedAt;
    return {
      ...(queuedAt === undefined ? {} : { queuedAt }),
      updatedAt: this.#updatedAt,
      ...(runner.requestedAt === undefined
        ? {}
        : { requestedAt: runner.requestedAt }),
    };
  }

  /**
   * Writes what waits. A failure of whatever kind is said, kept, and tried again
   * by all of it; the other family never hears of it.
   *
   * @throws `signal.reason` when aborted, and nothing else
   */
  async sync(
    changed: readonly string[],
    node: KernelNode,
    signal: AbortSignal,
  ): Promise<"done" | "again"> {
    for (const key of changed) this.#pending.add(key);
    let isFull = false;
    try {
      const input = this.#input(node);
      const { ports: _, healthChecks: __, ...rest } = input;
      if (!isDeepStrictEqual(rest, this.#written)) this.#needsAll = true;
      isFull = this.#needsAll;
      const scope = { full: isFull, changed: new Set(this.#pending) };
      if (isFull || scope.changed.size > 0) {
        await this.#write(input, scope, signal);
        this.#written = rest;
      } else this.#updatedAt = this.#options.clock.now();
      return await this.#forgetFlows(input, scope, signal);
    } catch (error) {
      signal.throwIfAborted();
      this.counts.failures++;
      if (!isFull) this.counts.partialFailures++;
      this.#failed(error);
      return "again";
    }
  }

  #input({ node, interfaceIps }: KernelNode): ModeInput {
    const { driver, state, settings, nodeName, serviceCidrs } = this.#options;
    return modeInput({
      mode: driver.mode,
      family: this.family,
      state,
      settings: settings(),
      nodeName,
      node,
      interfaceIps,
      serviceCidrs,
    });
  }

  async #write(
    input: ModeInput,
    scope: ProgramScope,
    signal: AbortSignal,
  ): Promise<void> {
    const startedAt = this.#options.clock.now();
    const result = await this.#programmer.program(input, scope, signal);
    const now = this.#options.clock.now();
    const { counts } = this;
    const seconds = scope.full ? counts.fullSeconds : counts.partialSeconds;
    seconds.observe((now - startedAt) / 1_000);
    counts.total = result.total;
    counts.last = result.written;
    counts.cleanupFailures = this.#programmer.cleanupFailures ?? 0;
    const isFirst = this.#fullAt === 0;
    if (scope.full) this.#fullAt = now;
    this.#needsAll = false;
    this.#pending.clear();
    this.#updatedAt = now;
    this.#failingSince = undefined;
    if (this.#saidFailure !== "" || isFirst) {
      logger.info(`Programmed ${this.family}`, { ...result.total });
    } else {
      logger.debug(`Programmed ${this.family}`, {
        services: scope.full ? "all" : scope.changed.size,
        ...result.written,
      });
    }
    this.#saidFailure = "";
  }

  #failed(error: unknown): void {
    this.#needsAll = true;
    this.#failingSince ??= this.#options.clock.now();
    const reason = error instanceof Error ? error.message : String(error);
    // The same words each second would hide everything else.
    if (reason === this.#saidFailure) return;
    this.#saidFailure = reason;
    // What a program said is all there is to know; anything else is a bug.
    const cause = error instanceof CommandError ? {} : { cause: error };
    logger.error(`Cannot program ${this.family}; trying again`, {
      reason,
      ...cause,
    });
  }

  /** Facts 10.48–10.53. */
  async #forgetFlows(
    input: ModeInput,
    scope: ProgramScope,
    signal: AbortSignal,
  ): Promise<"done" | "again"> {
    const services = scope.full
      ? [...this.#flows.services, ...this.#options.state.keys()]
      : scope.changed;
    const localIps = input.node.interfaceIps;
    const count = await this.#flows.forget(services, { localIps, signal });
    if (count === "again") return "again";
    this.counts.flowsForgotten += count;
    return "done";
  }

  /**
   * Whether somebody removed what was written, or an hour has passed.
   *
   * @throws `signal.reason` when aborted, and nothing else
   */
  async look(signal: AbortSignal): Promise<void> {
    const age = this.#options.clock.now() - this.#fullAt;
    // A clock that was set back makes the age negative: due as well.
    if (this.#needsAll || age >= FULL_SYNC_PERIOD_MS || age < 0) {
      this.#needsAll = true;
      return;
    }
    try {
      if (await this.#programmer.isIntact(signal)) {
        await this.#programmer.upkeep?.(signal);
        return;
      }
    } catch (error) {
      signal.throwIfAborted();
      this.#failed(error);
      return;
    }
    logger.warn("Rules were removed by somebody else; writing all of them", {
      family: this.family,
    });
    this.#needsAll = true;
  }
}
