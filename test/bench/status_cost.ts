/**
 * What being looked at costs the proxy with many Services: a scrape of
 * `/metrics`, the first answer to a page, and each look after it.
 *
 *     deno run -A test/bench/status_cost.ts [SERVICES]
 *
 * @module
 */
import { print, table } from "../../proxy/commands/terminal.ts";
import { Metrics } from "../../proxy/status/metrics.ts";
import { StatusBoard } from "../../proxy/status/status_board.ts";
import { service, slice } from "../support/objects.ts";
import { FakeSource } from "../support/status_source.ts";

const ROUNDS = 30;

/** Milliseconds, sorted. */
async function times(work: () => unknown): Promise<number[]> {
  const all: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const startedAt = performance.now();
    await work();
    all.push(performance.now() - startedAt);
  }
  return all.sort((a, b) => a - b);
}

function row(what: string, sorted: readonly number[]): string[] {
  const at = (share: number) =>
    `${sorted[Math.floor(share * (sorted.length - 1))]?.toFixed(0)} ms`;
  return [what, at(0.5), at(1)];
}

const count = Number(Deno.args[0] ?? 10_000);
const source = new FakeSource();
for (let n = 0; n < count; n++) {
  const name = `ns/s${n}`;
  const clusterIP = `10.96.${n >> 8}.${n & 255}`;
  const endpoints = [{ ip: "10.0.0.1" }, { ip: "10.0.0.2" }];
  source.set(service(name, { clusterIP }), [
    slice(`${name}-1`, { endpoints }),
  ]);
}
const metrics = new Metrics(source);
const scrapes = await times(() => metrics.expose());
let now = Date.now();
const board = new StatusBoard(source, () => now += 1_000);
const first = await times(() => {
  board.refresh();
  JSON.stringify(board.changes("").rows);
});
let { cursor } = board.changes("");
const looks = await times(() => {
  board.refresh();
  const changes = board.changes(cursor);
  cursor = changes.cursor;
  JSON.stringify([changes, board.overview()]);
});
print(table([`${count} SERVICES`, "P50", "MAX"], [
  row("a scrape of /metrics", scrapes),
  row("everything, for a page that has just come", first),
  row("a look, once a second while a page is open", looks),
]));
