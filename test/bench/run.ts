/**
 * All benchmarks against peers, in one run: prints tables, and writes the
 * numbers and a plot for each table to test/bench/results/. See README.md.
 *
 *     deno task bench [--only NAME,…] [--rounds N] [--peers NAME,…]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, printError } from "../../proxy/commands/terminal.ts";
import { compare, type Compared, compareIdle } from "./compare.ts";
import { judge, type Verdict } from "./goals.ts";
import { growth, SIZES } from "./growth.ts";
import { describeMachine, type Machine } from "./machine.ts";
import { MEASURES } from "./measures.ts";
import {
  MODE_ROUNDS,
  MODE_SIZES,
  MODE_WINDOW_MS,
  modesCommand,
} from "./modes/command.ts";
import { MODE_NAMES } from "./modes/subjects.ts";
import { plot } from "./plot.ts";
import { setPatience } from "./quiet.ts";
import { measureTable, verdictTable } from "./report.ts";
import { median, type Series } from "./samples.ts";
import {
  findSubjects,
  PEERS,
  raiseDescriptorLimit,
  type Subject,
} from "./subjects.ts";

const TITLES: Readonly<Record<string, string>> = {
  ...Object.fromEntries(MEASURES.map(({ name, title }) => [name, title])),
  idle: "Memory of idle connections",
  growth: "Growth with the number of Services",
};

/** The names that `--only` takes. */
const NAMES = Object.keys(TITLES);

const HELP = `Usage: deno task bench [flags]

  --only NAME,…     only these: ${NAMES.join(", ")}
  --rounds N        rounds of each measure (5; for --modes ${MODE_ROUNDS})
  --window MS       how long one subject is measured in a round (1000; for
                    --modes ${MODE_WINDOW_MS})
  --peers NAME,…    only these peers: ${PEERS.join(", ")}; "" for none
  --subjects NAME,… only these of ours: portable, "splice", "splice, 2 workers"
  --patience S      how long to wait, in all, for other work to pause (60)
  --sizes N,…       numbers of Services for "growth" (${SIZES.join(", ")})
  --out DIR         where results go (test/bench/results)

  --modes           instead of all that: this program's modes, by the number of
                    Services, in network namespaces
  --mode NAME,…     only these of them: ${MODE_NAMES.join(", ")}
  --sizes N,…       numbers of Services (${MODE_SIZES.join(", ")})
  --keep            keep what is in DIR of other modes and sizes
`;

/** Above this, rates say more about others than about what is measured. */
const NOISY_CPUS = 0.3;

/** Memory does not vary as times do. */
const IDLE_ROUNDS_MAX = 3;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: NAMES.join(",") },
      rounds: { type: "string" },
      window: { type: "string" },
      peers: { type: "string", default: PEERS.join(",") },
      subjects: { type: "string" },
      sizes: { type: "string" },
      patience: { type: "string", default: "60" },
      out: {
        type: "string",
        default: new URL("results", import.meta.url).pathname,
      },
      modes: { type: "boolean", default: false },
      mode: { type: "string", default: MODE_NAMES.join(",") },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return print(HELP);
  const only = new Set(values.only.split(","));
  const unknown = [...only].filter((name) => !NAMES.includes(name));
  if (unknown.length > 0) {
    throw new RangeError(`No measure is called "${unknown.join('", "')}"`);
  }
  raiseDescriptorLimit();
  setPatience(Number(values.patience) * 1000);
  const machine = describeMachine();
  introduce(machine);
  const startedAt = performance.now();
  const progress = (text: string) => {
    const seconds = (performance.now() - startedAt) / 1000;
    printError(`${seconds.toFixed(0).padStart(4)} s  ${text}\n`);
  };
  if (values.modes) {
    return await modesCommand({
      modes: values.mode.split(","),
      sizes: numbers(values.sizes ?? MODE_SIZES.join(",")),
      rounds: Number(values.rounds ?? MODE_ROUNDS),
      windowMs: Number(values.window ?? MODE_WINDOW_MS),
      out: values.out,
      keep: values.keep,
      machine,
      progress,
    });
  }
  const options = {
    subjects: choose(values.peers.split(","), values.subjects),
    measures: MEASURES.filter(({ name }) => only.has(name)),
    rounds: Number(values.rounds ?? "5"),
    windowMs: Number(values.window ?? "1000"),
    progress,
  };
  const { series, ...about } = await compare(options);
  const all = [...series];
  for (const { name, title } of options.measures) {
    showMeasure(title, all.filter(({ measure }) => measure === name));
  }
  let idleConnections = 0;
  if (only.has("idle")) {
    const rounds = Math.min(options.rounds, IDLE_ROUNDS_MAX);
    const idle = await compareIdle({ ...options, rounds });
    idleConnections = idle.connections;
    all.push(...idle.series);
    showMeasure(TITLES.idle, idle.series);
  }
  if (only.has("growth")) {
    const grown = await growth({
      ...options,
      sizes: numbers(values.sizes ?? SIZES.join(",")),
      withNginx: options.subjects.some(({ name }) => name === "nginx"),
    });
    all.push(...grown);
    showMeasure(TITLES.growth, grown);
  }
  const verdicts = judge(all);
  if (verdicts.length > 0) print(`\n## Goals\n\n${verdictTable(verdicts)}`);
  if (about.failures.length > 0) {
    print(`\nFailed: ${about.failures.join("; ")}\n`);
  }
  const othersCpus = Object.values(about.othersCpus).flat();
  const others = median(othersCpus);
  const minutes = (performance.now() - startedAt) / 60_000;
  const noise = othersCpus.length === 0
    ? ""
    : `Others used ${others.toFixed(1)} CPUs meanwhile (median); `;
  print(`\n${noise}${minutes.toFixed(1)} minutes\n`);
  if (others > NOISY_CPUS) {
    print("That is much: trust CPU time and memory, not rates and latency\n");
  }
  await Deno.mkdir(values.out, { recursive: true });
  const { pacedPerSecond, failures } = about;
  await write(values.out, { series: all, verdicts }, {
    machine,
    rounds: options.rounds,
    windowMs: options.windowMs,
    othersCpus: about.othersCpus,
    pacedPerSecond,
    idleConnections,
    failures,
  });
}

/** What is measured on, before anything is. */
function introduce(machine: Machine): void {
  const peers = Object.entries(machine.peers)
    .map(([name, version]) => `${name} ${version}`).join(", ");
  print(
    `${machine.cpus} × ${machine.cpu}, Linux ${machine.kernel}, Deno ` +
      `${machine.deno}, commit ${machine.commit}\n${peers}; load ${
        Deno.loadavg()[0]!.toFixed(1)
      } before\n`,
  );
}

function numbers(list: string): number[] {
  return list.split(",").map(Number);
}

/** Direct connections, ours, and the peers that were asked for. */
function choose(peers: readonly string[], ours?: string): Subject[] {
  const { found, missing } = findSubjects();
  for (const why of missing) print(`Not compared with: ${why}\n`);
  return found.filter(({ name }) => {
    if (name === "direct") return true;
    if (PEERS.includes(name)) return peers.includes(name);
    // A name of ours has a comma in it.
    return ours === undefined || ours.split(/,(?! )/).includes(name);
  });
}

function showMeasure(
  title: string | undefined,
  series: readonly Series[],
): void {
  if (series.length === 0) return;
  print(`\n## ${title ?? ""}\n\n${measureTable(series, PEERS)}`);
}

/** A file of numbers and a plot for each measure. */
async function write(
  folder: string,
  { series, verdicts }: {
    readonly series: readonly Series[];
    readonly verdicts: readonly Verdict[];
  },
  { othersCpus, ...about }:
    & Pick<Compared, "othersCpus">
    & Readonly<Record<string, unknown>>,
): Promise<void> {
  for (const [measure, group] of Map.groupBy(series, (one) => one.measure)) {
    const title = TITLES[measure] ?? measure;
    const path = `${folder}/${measure}`;
    await Deno.writeTextFile(
      `${path}.json`,
      json({
        measure,
        title,
        ...about,
        othersCpus: othersCpus[measure],
        verdicts: verdicts.filter((verdict) => verdict.measure === measure),
        series: group,
      }),
    );
    await Deno.writeTextFile(`${path}.svg`, plot(title, group));
  }
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2) + "\n";
}

if (import.meta.main) await main();
