/**
 * `bench --modes`: measures, prints tables, and writes the numbers and a plot
 * for each measure.
 *
 * @module
 */
import { print } from "../../../proxy/commands/terminal.ts";
import type { Machine } from "../machine.ts";
import { findProgram } from "../../support/needs.ts";
import { netns } from "../../support/netns.ts";
import { linePlot } from "./lines.ts";
import { compareModes } from "./modes.ts";
import {
  growthSentences,
  MEASURE_TITLES,
  merged,
  type ModeSeries,
  modeTables,
} from "./series.ts";
import { missingFor, MODE_NAMES } from "./subjects.ts";

/** Sizes of Services, where none are asked for. */
export const MODE_SIZES: readonly number[] = [1, 100, 1_000, 5_000, 10_000];
export const MODE_ROUNDS = 3;
export const MODE_WINDOW_MS = 500;

export interface ModesCommand {
  readonly modes: readonly string[];
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly windowMs: number;
  readonly out: string;
  /** Adds to what is in `out`, instead of writing it anew. */
  readonly keep: boolean;
  readonly machine: Machine;
  readonly progress: (text: string) => void;
}

/** What is programmed in a mode, of each kind: medians of so many. */
const CHANGES = 10;
/** Whole runs end before ten minutes; the last size takes two. */
const BUDGET_MS = 7 * 60_000;

/** What a file holds of one run at one size. */
interface Run {
  readonly machine: Machine;
  readonly rounds: number;
  readonly windowMs: number;
  readonly modes: readonly string[];
  readonly size: number;
  /** In words. */
  readonly leftOut: readonly string[];
}

/**
 * @throws {RangeError} for a mode that there is not, or a machine without
 *   namespaces
 */
export async function modesCommand(command: ModesCommand): Promise<void> {
  const { sizes, rounds, windowMs, machine, progress } = command;
  const unknown = command.modes.find((mode) => !MODE_NAMES.includes(mode));
  if (unknown !== undefined) {
    throw new RangeError(
      `No mode is called "${unknown}"; there are ${MODE_NAMES.join(", ")}`,
    );
  }
  const why = netns();
  if (why !== undefined) throw new RangeError(`Cannot compare modes: ${why}`);
  const missing = command.modes.flatMap((mode) => {
    const why = missingFor(mode);
    return why === undefined ? [] : [{ mode, why }];
  });
  const modes = command.modes.filter((mode) =>
    missing.every((one) => one.mode !== mode)
  );
  for (const { mode, why } of missing) print(`No ${mode} mode here: ${why}\n`);
  const startedAt = performance.now();
  let all: ModeSeries[] = [];
  let keep = command.keep;
  for (const size of sizes) {
    const { series, leftOut } = await compareModes({
      modes,
      sizes: [size],
      rounds,
      windowMs,
      changes: CHANGES,
      budgetMs: BUDGET_MS - (performance.now() - startedAt),
      progress,
    });
    for (const what of leftOut) print(`Left out: ${what}\n`);
    const run: Run = { machine, rounds, windowMs, modes, size, leftOut };
    // After each size: who interrupts it keeps what has been measured.
    all = await write(series, run, command.out, keep);
    keep = true;
  }
  print(modeTables(all));
  print(`\n${growthSentences(all).map((line) => `- ${line}\n`).join("")}`);
  print(`- ipvs: ${ipvsSentence()}\n`);
}

/** The fifth mode cannot be measured beside the others; here is why. */
function ipvsSentence(): string {
  const hint = "test/guest/ipvs_test.ts runs that mode in a virtual machine, " +
    "whose emulated CPU says nothing of speed";
  return hasIpvs()
    ? `not measured, though this kernel has ip_vs: ${hint}`
    : `not measured, since this kernel has no ip_vs: ${hint}`;
}

function hasIpvs(): boolean {
  try {
    Deno.statSync("/proc/net/ip_vs");
    return true;
  } catch {
    const modprobe = findProgram("modprobe");
    if (modprobe === undefined) return false;
    return new Deno.Command(modprobe, {
      args: ["--dry-run", "--quiet", "ip_vs"],
      stderr: "null",
    }).outputSync().success;
  }
}

/** @returns what the files hold now */
async function write(
  now: readonly ModeSeries[],
  run: Run,
  out: string,
  keep: boolean,
): Promise<ModeSeries[]> {
  await Deno.mkdir(out, { recursive: true });
  const all: ModeSeries[] = [];
  for (const [measure, title] of Object.entries(MEASURE_TITLES)) {
    const path = `${out}/${measure}`;
    const before = keep ? await read(`${path}.json`) : undefined;
    const series = merged(
      before?.series ?? [],
      now.filter((one) => one.measure === measure),
    );
    if (series.length === 0) continue;
    const runs = [...before?.runs ?? [], run];
    const text = JSON.stringify({ measure, title, runs, series }, null, 2);
    await Deno.writeTextFile(`${path}.json`, text + "\n");
    await Deno.writeTextFile(`${path}.svg`, linePlot(title, series));
    all.push(...series);
  }
  return all;
}

async function read(
  path: string,
): Promise<{ runs: Run[]; series: ModeSeries[] } | undefined> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return undefined;
    throw error;
  }
}
