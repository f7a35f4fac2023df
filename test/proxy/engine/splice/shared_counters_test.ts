import assert from "node:assert/strict";
import {
  LineAllocator,
  PORT_CELLS,
  SharedCounters,
} from "../../../../proxy/engine/splice/shared_counters.ts";

Deno.test("a line counts in memory that another thread sees", () => {
  const other = new SharedCounters();
  const lines = new LineAllocator((memory) => other.addTable(memory));
  const number = lines.take();
  const mine = lines.counters.line(number);
  const theirs = other.line(number);
  theirs.add(PORT_CELLS.connectionsOpen, 2);
  theirs.bytesToClients += 2 ** 40;
  assert.equal(mine.get(PORT_CELLS.connectionsOpen), 2);
  assert.equal(mine.bytesToClients, 2 ** 40);
  assert.equal(mine.bytesToEndpoints, 0);
});

Deno.test("memory is announced before its first line is used, once", () => {
  const other = new SharedCounters();
  let announced = 0;
  const lines = new LineAllocator((memory) => {
    announced++;
    other.addTable(memory);
  });
  const numbers = Array.from({ length: 10_000 }, () => {
    const number = lines.take();
    other.line(number).add(0, number);
    return number;
  });
  assert.equal(new Set(numbers).size, 10_000);
  assert.equal(announced, 3);
  for (const number of numbers) {
    assert.equal(lines.counters.line(number).get(0), number);
  }
});

Deno.test("a line that is given back begins at 0 again", () => {
  const lines = new LineAllocator(() => {});
  const number = lines.take();
  lines.counters.line(number).add(7, 5);
  lines.giveBack(number);
  assert.equal(lines.take(), number);
  assert.equal(lines.counters.line(number).get(7), 0);
});
