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
import { compare, compareIdle, COMPARISONS } from "./compare.ts";
import { judge } from "./goals.ts";
import { describeMachine } from "./machine.ts";
import { MEASURES } from "./measures.ts";
import { plot } from "./plot.ts";
import { setPatience } from "./quiet.ts";
import { measureTable, verdictTable } from "./report.ts";
import { median, type Series } from "./samples.ts";
import { findSubjects, PEERS, type Subject } from "./subjects.ts";

const HELP = `Usage: deno task bench [flags]

  --only NAME,…     only these: ${COMPARISONS.join(", ")}
  --rounds N        rounds of each measure (5)
  --window MS       how long one subject is measured in a round (1000)
  --peers NAME,…    only these peers: ${PEERS.join(", ")}; "" for none
  --subjects NAME,… only these of ours: portable, "splice", "splice, 2 workers"
  --patience S      how long to wait, in all, for other work to pause (60)
  --out DIR         where results go (test/bench/results)
`;

/** Memory does not vary as times do. */
const IDLE_ROUNDS_MAX = 3;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: "string", default: COMPARISONS.join(",") },
      rounds: { type: "string", default: "5" },
      window: { type: "string", default: "1000" },
      peers: { type: "string", default: PEERS.join(",") },
      subjects: { type: "string" },
      patience: { type: "string", default: "60" },
      out: {
        type: "string",
        default: new URL("results", import.meta.url).pathname,
      },
      help: { type: "boolean", default: false },
    },
  });
  if (values.help) return print(HELP);
  const only = new Set(values.only.split(","));
  const unknown = [...only].filter((name) => !COMPARISONS.includes(name));
  if (unknown.length > 0) {
    throw new RangeError(`No measure is called "${unknown.join('", "')}"`);
  }
  setPatience(Number(values.patience) * 1000);
  const machine = describeMachine();
  const subjects = choose(values.peers.split(","), values.subjects);
  print(
    `${machine.cpus} × ${machine.cpu}, Linux ${machine.kernel}, Deno ` +
      `${machine.deno}, commit ${machine.commit}\n${
        Object.entries(machine.peers).map(([name, version]) =>
          `${name} ${version}`
        ).join(", ")
      }; load ${Deno.loadavg()[0]!.toFixed(1)} before\n`,
  );
  const startedAt = performance.now();
  const options = {
    subjects,
    measures: MEASURES.filter(({ name }) => only.has(name)),
    rounds: Number(values.rounds),
    windowMs: Number(values.window),
    progress: (text: string) => printError(`${text}\n`),
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
    showMeasure(`Memory, ${idle.connections} idle connections`, idle.series);
  }
  const verdicts = judge(all);
  if (verdicts.length > 0) print(`\n## Goals\n\n${verdictTable(verdicts)}`);
  if (about.failures.length > 0) {
    print(`\nFailed: ${about.failures.join("; ")}\n`);
  }
  const others = median(about.othersCpus);
  const minutes = (performance.now() - startedAt) / 60_000;
  print(
    `\nOthers used ${others.toFixed(1)} CPUs meanwhile (median); ` +
      `${minutes.toFixed(1)} minutes\n`,
  );
  await Deno.mkdir(values.out, { recursive: true });
  const { pacedPerSecond, failures } = about;
  await write(values.out, all, {
    machine,
    rounds: options.rounds,
    windowMs: options.windowMs,
    othersCpus: others,
    pacedPerSecond,
    idleConnections,
    failures,
  });
  await Deno.writeTextFile(
    `${values.out}/goals.json`,
    json({ machine, verdicts }),
  );
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

function showMeasure(title: string, series: readonly Series[]): void {
  if (series.length === 0) return;
  print(`\n## ${title}\n\n${measureTable(series, PEERS)}`);
}

/** A file of numbers and a plot for each measure. */
async function write(
  folder: string,
  series: readonly Series[],
  about: Readonly<Record<string, unknown>>,
): Promise<void> {
  for (const [measure, group] of Map.groupBy(series, (one) => one.measure)) {
    const title = MEASURES.find(({ name }) => name === measure)?.title ??
      "Memory of idle connections";
    const path = `${folder}/${measure}`;
    await Deno.writeTextFile(
      `${path}.json`,
      json({ measure, title, ...about, series: group }),
    );
    await Deno.writeTextFile(`${path}.svg`, plot(title, group));
  }
}

function json(value: unknown): string {
  return JSON.stringify(value, null, 2) + "\n";
}

if (import.meta.main) await main();
