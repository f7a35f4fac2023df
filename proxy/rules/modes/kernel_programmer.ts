/**
 * What a kernel mode has to do to run: keep one IP family of the kernel
 * programmed. `kernel_proxier.ts` drives one of these for each family, in every
 * mode, and decides when; a mode decides how. Types alone.
 *
 * @module
 */
import type { IpFamily } from "../../ip.ts";
import type { KernelMode, ModeInput, ModeSettings } from "./mode_input.ts";

/** How much of the program has to be written. */
export interface ProgramScope {
  /**
   * Everything, whatever the kernel holds: at the start, after a failure, when
   * the rules were flushed, when the own Node changed, and once in a while
   * (fact 9.9). A mode removes with it what an earlier run left.
   */
  readonly full: boolean;
  /** Otherwise only what belongs to these: keys of Services, removed ones too. */
  readonly changed: ReadonlySet<string>;
}

/** What a write did, for metrics. */
export interface ProgramResult {
  /** Rules or elements that this write sent, by table. */
  readonly written: Readonly<Record<string, number>>;
  /** Rules or elements that the mode owns in the kernel now, by table. */
  readonly total: Readonly<Record<string, number>>;
}

/** One family of one mode; it keeps what it needs to write differences. */
export interface KernelProgrammer {
  readonly family: IpFamily;
  /** Times so far that what nobody uses any more could not be deleted. */
  readonly cleanupFailures?: number;
  /**
   * Why this family cannot be programmed here, as one sentence; `undefined`
   * where it can. Asked once, before the first write.
   */
  obstacle(signal: AbortSignal): Promise<string | undefined>;
  /**
   * Makes the kernel hold the program, at once or not at all.
   *
   * @throws {CommandError} if the kernel or its programs refuse; the next scope
   *   is full then
   */
  program(
    input: ModeInput,
    scope: ProgramScope,
    signal: AbortSignal,
  ): Promise<ProgramResult>;
  /**
   * What has to be done later than a write: once in a sync period.
   *
   * @throws {CommandError}
   */
  upkeep?(signal: AbortSignal): Promise<void>;
  /** Whether what was written is still there: nobody flushed the tables. */
  isIntact(signal: AbortSignal): Promise<boolean>;
  /**
   * Removes everything the mode could have written, in this run or another;
   * called without `obstacle()` before it. Nothing there is nothing to do.
   */
  cleanup(signal: AbortSignal): Promise<void>;
}

/** A kernel parameter that a mode needs, and writes if it is another. */
export interface Sysctl {
  /** As `sysctl` names it: `net.ipv4.conf.all.route_localnet`. */
  readonly name: string;
  readonly value: string;
  /** What does not work without it, as the rest of a sentence. */
  readonly without: string;
}

/**
 * A mode as something that runs.
 *
 * What it writes has kube-proxy's names, and may be kube-proxy's: so it leaves a
 * mark in the kernel before it writes anything, and only where that is found is
 * anything cleaned up. The mark remembers the parameters that were changed.
 */
export interface KernelModeDriver {
  readonly mode: KernelMode;
  readonly programmers: readonly KernelProgrammer[];
  /** Facts 6.9 and 10.43, and no others. */
  sysctls(settings: ModeSettings): readonly Sysctl[];
  /**
   * The parameters to put back, by name; `undefined` where the mode left no
   * mark, or that cannot be known.
   */
  readMark(
    signal: AbortSignal,
  ): Promise<ReadonlyMap<string, string> | undefined>;
  /** @throws {CommandError} */
  writeMark(
    originals: ReadonlyMap<string, string>,
    signal: AbortSignal,
  ): Promise<void>;
  /** @throws {CommandError} */
  removeMark(signal: AbortSignal): Promise<void>;
}
