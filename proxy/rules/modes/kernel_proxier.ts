/**
 * Makes the desired state so in the kernel, in whatever mode: the counterpart of
 * `proxier.ts`, which does it with listeners. It decides when what is written:
 * all of it at the start, after a failure, when somebody flushed it and once an
 * hour; else what changed (fact 9.9). Each family is on its own: where one
 * fails, the other goes on.
 *
 * It keeps no copy of the state: it is given the live map, and the keys of what
 * changed in it.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../../../watch/clock.ts";
import type { Node } from "../../../watch/types.ts";
import type { DesiredState, ServicePortState } from "../../desired_state.ts";
import type { IpFamily } from "../../ip.ts";
import type { KernelCounts } from "../../kernel_counts.ts";
import type { StateChanges } from "../../state_tracker.ts";
import { SteeringError } from "../../steering.ts";
import type { SyncTimes } from "../../sync_runner.ts";
import { CommandError, type CommandRunner, systemRunner } from "../command.ts";
import { FamilySync } from "./family_sync.ts";
import type { KernelModeDriver } from "./kernel_programmer.ts";
import type { KernelMode, ModeSettings } from "./mode_input.ts";
import { applySysctls, restoreSysctls } from "./sysctls.ts";

const logger = getLogger("rules");

/** What is known of the own node at the moment. */
export interface KernelNode {
  readonly node: Node | undefined;
  readonly interfaceIps: readonly string[];
}

export interface KernelProxierOptions {
  readonly driver: KernelModeDriver;
  /** As they are now; what follows from a change is written. */
  readonly settings: () => ModeSettings;
  readonly nodeName: string;
  readonly serviceCidrs: readonly string[];
  /** The live map of the state tracker. */
  readonly state: DesiredState;
  readonly clock: Clock;
  /** Default: real programs. */
  readonly runner?: CommandRunner;
}

export class KernelProxier {
  readonly #options: KernelProxierOptions;
  readonly #runner: CommandRunner;
  readonly #families: readonly FamilySync[];
  #node: KernelNode = { node: undefined, interfaceIps: [] };
  /** As last applied; `undefined`: never. */
  #sysctls: string | undefined;
  /** What was there before, should the mark not have it yet. */
  #originals: ReadonlyMap<string, string> = new Map();
  #saidSysctls = "";

  private constructor(
    options: KernelProxierOptions,
    families: readonly FamilySync[],
  ) {
    this.#options = options;
    this.#runner = options.runner ?? systemRunner;
    this.#families = families;
  }

  /**
   * Finds out which families can be programmed here, marks the machine, and
   * sets the kernel parameters of the mode.
   *
   * @throws {SteeringError} if no family can be programmed
   */
  static async start(
    options: KernelProxierOptions,
    signal: AbortSignal,
  ): Promise<KernelProxier> {
    const { driver, runner = systemRunner } = options;
    const families: FamilySync[] = [];
    const obstacles: string[] = [];
    for (const programmer of driver.programmers) {
      const why = await programmer.obstacle(signal);
      if (why === undefined) {
        families.push(new FamilySync(programmer, { ...options, runner }));
        continue;
      }
      obstacles.push(`${programmer.family}: ${why}`);
    }
    if (families.length === 0) {
      // What the kernel does not have, it has for neither family.
      const reasons = new Set(
        obstacles.map((each) => each.slice(each.indexOf(": ") + 2)),
      );
      const why = reasons.size === 1 ? [...reasons] : obstacles;
      throw new SteeringError(
        `Cannot run ${driver.mode} mode: ${why.join("; ")}`,
      );
    }
    for (const reason of obstacles) {
      logger.warn("One IP family is not served", { reason });
    }
    const proxier = new KernelProxier(options, families);
    await proxier.#applySysctls(signal);
    return proxier;
  }

  /** At the start, and when settings ask for others. */
  async #applySysctls(signal: AbortSignal): Promise<void> {
    const { driver, settings } = this.#options;
    const wanted = driver.sysctls(settings());
    const names = wanted.map(({ name, value }) => `${name}=${value}`).join();
    if (names === this.#sysctls) return;
    const marked = await driver.readMark(signal) ?? new Map();
    // The mark is there before anything is changed that it must remember.
    await driver.writeMark(marked, signal);
    const kept = new Map([...this.#originals, ...marked]);
    const options = { runner: this.#runner, signal };
    this.#originals = await applySysctls(wanted, kept, options);
    if (this.#originals.size > marked.size) {
      await driver.writeMark(this.#originals, signal);
    }
    this.#sysctls = names;
    this.#saidSysctls = "";
  }

  /** The same while it runs: rules do not wait for it. */
  async #trySysctls(signal: AbortSignal): Promise<"done" | "again"> {
    try {
      await this.#applySysctls(signal);
      return "done";
    } catch (error) {
      signal.throwIfAborted();
      const reason = error instanceof Error ? error.message : String(error);
      if (reason === this.#saidSysctls) return "again";
      this.#saidSysctls = reason;
      const cause = error instanceof CommandError ? {} : { cause: error };
      logger.error("Cannot set kernel parameters; trying again", {
        reason,
        ...cause,
      });
      return "again";
    }
  }

  get mode(): KernelMode {
    return this.#options.driver.mode;
  }

  /** Families that cannot be programmed here are not among them. */
  get families(): IpFamily[] {
    return this.#families.map(({ family }) => family);
  }

  /** Every ServicePort of the state, for status. */
  *ports(): Generator<ServicePortState> {
    for (const { ports } of this.#options.state.values()) yield* ports;
  }

  /** As its own syncs went; of the runner, what all families share. */
  times(runner: SyncTimes): Partial<Record<IpFamily, SyncTimes>> {
    return Object.fromEntries(
      this.#families.map((each) => [each.family, each.times(runner)]),
    );
  }

  /** What each family counted. */
  counts(): Partial<Record<IpFamily, KernelCounts>> {
    return Object.fromEntries(
      this.#families.map((each) => [each.family, each.counts]),
    );
  }

  /** Takes the own node as it is now; what follows from it is written anew. */
  setNode(next: KernelNode): void {
    this.#node = next;
  }

  /**
   * One sync of all families; what fails in one is tried again there.
   *
   * @returns `again` if some family, or a kernel parameter, could not be written
   */
  async sync(
    { changed, removed }: StateChanges,
    signal: AbortSignal,
  ): Promise<"done" | "again"> {
    const sysctls = await this.#trySysctls(signal);
    const keys = [...changed.map(({ key }) => key), ...removed];
    const results = await Promise.all(
      this.#families.map((each) => each.sync(keys, this.#node, signal)),
    );
    return [sysctls, ...results].includes("again") ? "again" : "done";
  }

  /** Looks whether all is still there; the next sync writes what is not. */
  async repair(signal: AbortSignal): Promise<void> {
    await Promise.all(this.#families.map((each) => each.look(signal)));
  }

  /** Removes all that any run of the mode left here. */
  cleanup(signal: AbortSignal): Promise<void> {
    const { driver } = this.#options;
    return cleanupKernelMode(driver, { runner: this.#runner, signal });
  }
}

/**
 * Removes what a mode wrote, and puts kernel parameters back; nothing where it
 * left no mark.
 *
 * @throws {CommandError} if something of it stays
 */
export async function cleanupKernelMode(
  driver: KernelModeDriver,
  { runner = systemRunner, signal }: {
    runner?: CommandRunner;
    signal: AbortSignal;
  },
): Promise<void> {
  const originals = await driver.readMark(signal);
  if (originals === undefined) return;
  for (const programmer of driver.programmers) {
    await programmer.cleanup(signal);
  }
  await restoreSysctls(originals, { runner, signal });
  await driver.removeMark(signal);
  logger.info(`Removed what ${driver.mode} mode left`);
}
