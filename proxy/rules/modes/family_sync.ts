/**
 * One IP family of a kernel mode: what waits to be written, whether all of it
 * has to be, how the last write went, and which UDP flows it left stale.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import { getLogger } from "@std/log";
import type { ServicePortState } from "../../desired_state.ts";
import type { IpFamily } from "../../ip.ts";
import { KernelCounts } from "../../kernel_counts.ts";
import type { SyncTimes } from "../../sync_runner.ts";
import { CommandError, type CommandRunner } from "../command.ts";
import type { KernelProgrammer, ProgramScope } from "./kernel_programmer.ts";
import type { KernelNode, KernelProxierOptions } from "./kernel_proxier.ts";
import { type ModeInput, modeInput } from "./mode_input.ts";
import { forgetStaleFlows, udpTarget } from "./stale_flows.ts";

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
  #saidFlows = false;
  /** What was written last, but for the ports. */
  #written: Omit<ModeInput, "ports" | "healthChecks"> | undefined;
  /** UDP ServicePorts as last written, by Service: what flows were led by. */
  readonly #udpOf = new Map<string, readonly ServicePortState[]>();

  constructor(programmer: KernelProgrammer, options: Options) {
    this.#programmer = programmer;
    this.#options = options;
    this.#updatedAt = options.clock.now();
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

  /** Writes what waits; a failure is said, kept, and tried again by all of it. */
  async sync(
    changed: readonly string[],
    node: KernelNode,
    signal: AbortSignal,
  ): Promise<"done" | "again"> {
    for (const key of changed) this.#pending.add(key);
    const input = this.#input(node);
    const { ports: _, healthChecks: __, ...rest } = input;
    if (!isDeepStrictEqual(rest, this.#written)) this.#needsAll = true;
    if (!this.#needsAll && this.#pending.size === 0) {
      this.#updatedAt = this.#options.clock.now();
      return "done";
    }
    const scope = { full: this.#needsAll, changed: new Set(this.#pending) };
    try {
      await this.#write(input, scope, signal);
      this.#written = rest;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof CommandError)) throw error;
      this.counts.failures++;
      if (!scope.full) this.counts.partialFailures++;
      this.#failed(error);
      return "again";
    }
    await this.#forgetFlows(input, scope, signal);
    return "done";
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

  #failed(error: CommandError): void {
    this.#needsAll = true;
    this.#failingSince ??= this.#options.clock.now();
    // The same words each second would hide everything else.
    if (error.message === this.#saidFailure) return;
    this.#saidFailure = error.message;
    logger.error(`Cannot program ${this.family}; trying again`, {
      reason: error.message,
    });
  }

  /** Facts 10.48–10.53. Never fails a sync: the rules are right without it. */
  async #forgetFlows(
    input: ModeInput,
    scope: ProgramScope,
    signal: AbortSignal,
  ): Promise<void> {
    const { state, runner } = this.#options;
    const keys = scope.full
      ? new Set([...this.#udpOf.keys(), ...state.keys()])
      : scope.changed;
    const targets = [...keys].flatMap((key) => this.#udpTargets(key));
    try {
      const count = await forgetStaleFlows(targets, {
        family: this.family,
        localIps: input.node.interfaceIps,
        runner,
        signal,
      });
      this.counts.flowsForgotten += count;
      if (count > 0) logger.debug("Forgot stale UDP flows", { count });
      this.#saidFlows = false;
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof CommandError)) throw error;
      if (this.#saidFlows) return;
      this.#saidFlows = true;
      logger.warn(
        "Cannot forget UDP flows to endpoints that are gone: their clients wait for the kernel to do so",
        { family: this.family, reason: error.message },
      );
    }
  }

  /** Of one Service: as it is, and what it no longer has. */
  #udpTargets(key: string) {
    const isOurs = ({ servicePort }: ServicePortState) =>
      servicePort.protocol === "UDP" && servicePort.family === this.family;
    const now = (this.#options.state.get(key)?.ports ?? []).filter(isOurs);
    const before = this.#udpOf.get(key) ?? [];
    if (now.length === 0) this.#udpOf.delete(key);
    else this.#udpOf.set(key, now);
    return [
      // What it still has is overruled by what follows.
      ...before.map((port) => udpTarget(port, { isGone: true })),
      ...now.map((port) => udpTarget(port)),
    ].filter((target) => target !== undefined);
  }

  async #upkeep(signal: AbortSignal): Promise<void> {
    try {
      await this.#programmer.upkeep?.(signal);
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof CommandError)) throw error;
      this.#failed(error);
    }
  }

  /** Whether somebody removed what was written, or an hour has passed. */
  async look(signal: AbortSignal): Promise<void> {
    const age = this.#options.clock.now() - this.#fullAt;
    // A clock that was set back makes the age negative: due as well.
    if (this.#needsAll || age >= FULL_SYNC_PERIOD_MS || age < 0) {
      this.#needsAll = true;
      return;
    }
    if (await this.#programmer.isIntact(signal)) {
      await this.#upkeep(signal);
      return;
    }
    logger.warn("Rules were removed by somebody else; writing all of them", {
      family: this.family,
    });
    this.#needsAll = true;
  }
}
