/**
 * A long soak: the whole program while Services, endpoints and connections come
 * and go, fifty changes a second and sixteen clients. Prints what it used, as
 * time went on, and whether everything adds up at the end.
 *
 *     deno run -A test/bench/soak.ts --engine splice --minutes 30 --pause-ms 30
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import { type Sample, soak, type SoakResult } from "../support/soak.ts";

const MIB_DIGITS = 1;

function row({ at, residentMiB, descriptors, connections, changes }: Sample) {
  return [
    `${Math.round(at / 60)} min`,
    residentMiB.toFixed(MIB_DIGITS),
    String(descriptors),
    String(connections),
    String(changes),
  ];
}

/** The middle of what was resident in a part of the time, given as shares of it. */
function residentBetween(
  { samples }: SoakResult,
  from: number,
  to: number,
): number {
  const part = samples.slice(
    Math.floor(samples.length * from),
    Math.ceil(samples.length * to),
  ).map(({ residentMiB }) => residentMiB).sort((a, b) => a - b);
  return part[Math.floor(part.length / 2)] ?? NaN;
}

function verdict(result: SoakResult): string[] {
  const { clients, endpoints, proxy, descriptors, failedConnections } = result;
  const { open, ...counted } = proxy;
  // A dial that took too long may have come to its endpoint all the same.
  const arrived = { ...endpoints, connections: clients.connections };
  const isEqual = JSON.stringify(counted) === JSON.stringify(clients) &&
    JSON.stringify(arrived) === JSON.stringify(clients) &&
    endpoints.connections >= clients.connections;
  const [second, last] = [
    residentBetween(result, 1 / 3, 2 / 3),
    residentBetween(result, 2 / 3, 1),
  ];
  return [
    `${clients.connections} connections, ${failedConnections} failed, ${open} open at the end`,
    `${clients.bytesToEndpoints} bytes there and ${clients.bytesToClients} back; ` +
    `clients, endpoints and /metrics ${isEqual ? "agree" : "DISAGREE"}`,
    `resident: ${second.toFixed(1)} MiB in the second third, ${
      last.toFixed(1)
    } MiB in the last`,
    `descriptors: ${descriptors.before} before, ${descriptors.after} after`,
  ];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "30" },
      engine: { type: "string", default: "splice" },
      "pause-ms": { type: "string", default: "0" },
      out: { type: "string" },
    },
  });
  const engine = values.engine === "portable" ? "portable" : "splice";
  const minutes = Number(values.minutes);
  const result = await soak({
    engine,
    seconds: minutes * 60,
    pauseMs: Number(values["pause-ms"]),
    sampleMs: Math.min(10_000, minutes * 6_000),
  });
  const every = Math.max(1, Math.floor(result.samples.length / 10));
  const shown = result.samples.filter((_, index) => index % every === 0);
  print(table(
    ["TIME", "MIB", "DESCRIPTORS", "CONNECTIONS", "CHANGES"],
    [...shown, result.samples.at(-1)!].map(row),
  ));
  for (const line of verdict(result)) print(`${engine}: ${line}\n`);
  if (values.out !== undefined) {
    await Deno.writeTextFile(
      values.out,
      JSON.stringify({ engine, minutes, ...result }, null, 1) + "\n",
    );
  }
}

await main();
