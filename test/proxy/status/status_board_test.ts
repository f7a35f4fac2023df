import assert from "node:assert/strict";
import type { EndpointStats } from "../../../proxy/engine/engine.ts";
import { StatusBoard } from "../../../proxy/status/status_board.ts";
import { service, slice } from "../../support/objects.ts";
import { FakePort, FakeSource } from "../../support/status_source.ts";

const WEB = "ns/web/TCP/IPv4";

function start(...names: string[]): { source: FakeSource; board: StatusBoard } {
  const source = new FakeSource();
  for (const [index, name] of names.entries()) {
    source.set(service(`ns/${name}`, { clusterIP: `10.96.0.${index + 1}` }));
  }
  return { source, board: new StatusBoard(source, () => source.now) };
}

function look({ source, board }: ReturnType<typeof start>, cursor?: string) {
  source.now += 1_000;
  board.refresh();
  const { rows, counted, ...rest } = board.changes(cursor);
  return {
    ...rest,
    rows: rows.map(({ row }) => row.id),
    counted: counted.map(([id]) => id),
  };
}

Deno.test("StatusBoard.changes() tells everything first, and then what changed", () => {
  const started = start("web", "db");
  const { source } = started;
  const first = look(started);
  assert.deepEqual(first.rows, [WEB, "ns/db/TCP/IPv4"]);
  assert.ok(first.isComplete);
  const none = look(started, first.cursor);
  assert.deepEqual([none.isComplete, none.rows, none.counted, none.removed], [
    false,
    [],
    [],
    [],
  ]);
  source.served.get(WEB)?.count({ connectionsOpen: 1 });
  const counted = look(started, none.cursor);
  assert.deepEqual([counted.rows, counted.counted], [[], [WEB]]);
  source.set(service("ns/web"), [
    slice("ns/web-1", { endpoints: ["10.0.0.1"] }),
  ]);
  source.remove("ns/db");
  source.set(service("ns/new", { clusterIP: "10.96.0.9" }));
  const changed = look(started, counted.cursor);
  assert.deepEqual(changed.rows, [WEB, "ns/new/TCP/IPv4"]);
  assert.deepEqual(changed.removed, ["ns/db/TCP/IPv4"]);
  // One that was away for longer hears all of it.
  assert.deepEqual(look(started, first.cursor).removed, ["ns/db/TCP/IPv4"]);
});

Deno.test("StatusBoard.changes() tells everything to a cursor of another process, or of none", () => {
  const started = start("web");
  for (const cursor of ["", "x", "00000000.1", "00000000.-1", "..", "𝕏.1"]) {
    assert.ok(look(started, cursor).isComplete, cursor);
  }
  const { cursor } = look(started);
  const other = start("web");
  assert.ok(look(other, cursor).isComplete);
  const ahead = cursor.replace(/\d+$/, "999");
  assert.ok(look(started, ahead).isComplete);
});

Deno.test("StatusBoard tells of a Service that is gone while its connections drain", () => {
  const started = start("web");
  const { source, board } = started;
  const old = source.served.get(WEB)!;
  old.count({ connectionsOpen: 1, connectionsTotal: 5 });
  look(started);
  source.remove("ns/web");
  source.drains = [old];
  look(started);
  assert.equal(board.port(WEB)?.row.isDraining, true);
  source.set(service("ns/web"));
  const { rows, cursor } = look(started);
  assert.deepEqual(rows, [WEB, `${WEB} (draining)`]);
  assert.equal(board.port(WEB)?.row.isDraining, false);
  source.drains = [];
  assert.deepEqual(look(started, cursor).removed, [`${WEB} (draining)`]);
  assert.equal(board.overview().totals.total, 5);
});

Deno.test("StatusBoard.history adds up what all Service ports counted, those that went too", () => {
  const started = start("web", "db");
  const { source, board } = started;
  source.served.get(WEB)?.count({
    connectionsOpen: 2,
    connectionsTotal: 3,
    bytesToClients: 10,
  });
  look(started);
  source.served.get("ns/db/TCP/IPv4")?.count({ connectionsTotal: 4 });
  source.remove("ns/web");
  look(started);
  assert.deepEqual(
    board.history.map(({ open, total, bytesToClients }) => [
      open,
      total,
      bytesToClients,
    ]),
    [[2, 3, 10], [0, 7, 10]],
  );
});

Deno.test("StatusBoard names addresses that are not served, whoever is to blame", () => {
  const started = start("web", "db");
  const { source, board } = started;
  const db = source.served.get("ns/db/TCP/IPv4")!;
  db.failures = [{ address: db.addresses[0]!, reason: "in use" }];
  db.bindings = [];
  source.steers = {
    name: "route",
    description: "",
    failures: new Map([["10.96.0.1:80/TCP", "no route"]]),
  };
  look(started);
  assert.equal(board.overview().unserved, 2);
  assert.equal(board.overview().listeners, 1);
  assert.equal(board.port(WEB)?.row.addresses[0]?.failure, "no route");
  const { cursor } = look(started);
  source.steers = { ...source.steers, failures: new Map() };
  assert.deepEqual(look(started, cursor).rows.includes(WEB), true);
  assert.equal(board.overview().unserved, 1);
});

Deno.test("StatusBoard.refresh() does nothing while somebody else's look is fresh", () => {
  const { source, board } = start("web");
  board.refresh();
  source.now += 400;
  board.refresh(500);
  assert.equal(board.history.length, 1);
  source.now += 200;
  board.refresh(500);
  assert.equal(board.history.length, 2);
});

Deno.test("StatusBoard.endpoints() knows every state of an endpoint", () => {
  const started = start();
  const { source, board } = started;
  const [port] = source.set(service("ns/web"), [slice("ns/web-1", {
    endpoints: [
      { ip: "10.0.0.1", nodeName: "n1" },
      { ip: "10.0.0.2", ready: false, serving: true, terminating: true },
      { ip: "10.0.0.3", ready: false, serving: true, terminating: true },
      { ip: "10.0.0.4", ready: false },
      { ip: "10.0.0.5" },
    ],
  })]);
  const one = { connectionsOpen: 1, connectionsTotal: 2, dialFailures: 3 };
  port?.count({
    endpoints: new Map<string, EndpointStats>([
      ["10.0.0.1:8080", one],
      ["10.0.0.3:8080", one],
      ["10.0.0.5:8080", { ...one, ejectedUntil: 1 }],
      ["10.0.0.9:8080", one],
      ["10.0.0.8:8080", { ...one, connectionsOpen: 0 }],
    ]),
  });
  look(started);
  assert.deepEqual(
    board.endpoints(WEB)?.map(({ address, state, isLocal, open }) =>
      `${address} ${state} ${isLocal} ${open}`
    ),
    [
      "10.0.0.1:8080 ready true 1",
      "10.0.0.2:8080 terminating false 0",
      "10.0.0.3:8080 draining false 1",
      "10.0.0.4:8080 not ready false 0",
      "10.0.0.5:8080 ejected false 1",
      "10.0.0.9:8080 draining false 1",
    ],
  );
  assert.equal(board.endpoints("ns/other/TCP/IPv4"), undefined);
  // The last resort: new connections go there.
  const terminating = source.set(service("ns/web"), [slice("ns/web-1", {
    endpoints: [
      { ip: "10.0.0.3", ready: false, serving: true, terminating: true },
    ],
  })]);
  assert.ok(terminating[0] instanceof FakePort);
  look(started);
  assert.equal(board.endpoints(WEB)?.[0]?.state, "terminating");
});
