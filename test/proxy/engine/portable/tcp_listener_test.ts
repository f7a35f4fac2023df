import { dialServer, within } from "../../../support/tcp.ts";
import assert from "node:assert/strict";
import { setImmediate } from "node:timers";
import type { EndpointAddress } from "../../../../proxy/engine/engine.ts";
import { listenTcp } from "../../../../proxy/engine/portable/tcp_listener.ts";
import { RepeatedLog } from "../../../../proxy/repeated_log.ts";
import { FakeClock, settle } from "../../../support/fake_clock.ts";

/** As Deno reports what it has no class for. */
function systemError(code: string): Error {
  return Object.assign(new Error(`${code} (os error)`), { code });
}

/** Runs with a `Deno.listen` whose sockets accept as `accept` says. */
async function withFakeSocket(
  accept: () => Promise<Deno.TcpConn>,
  run: () => Promise<void>,
): Promise<void> {
  const { listen } = Deno;
  const waiting = Promise.withResolvers<Deno.TcpConn>();
  const fake = {
    addr: { hostname: "127.0.0.1", port: 80, transport: "tcp" },
    accept: () => Promise.race([accept(), waiting.promise]),
    close: () => waiting.reject(new Deno.errors.BadResource("closed")),
  };
  try {
    Deno.listen = (() => fake) as unknown as typeof Deno.listen;
    await run();
  } finally {
    Deno.listen = listen;
  }
}

Deno.test("listenTcp() pauses while there are no descriptors, and resumes", async () => {
  const clock = new FakeClock();
  const lines: string[] = [];
  const log = new RepeatedLog({
    clock,
    write: (message) => lines.push(message),
  });
  const connection = {} as Deno.TcpConn;
  let attempts = 0;
  let accepted = 0;
  const accept = () => {
    attempts++;
    if (attempts <= 10) return Promise.reject(systemError("EMFILE"));
    if (attempts === 11) return Promise.resolve(connection);
    if (attempts === 12) return Promise.reject(systemError("ENFILE"));
    return new Promise<Deno.TcpConn>(() => {});
  };
  await withFakeSocket(accept, async () => {
    const listener = listenTcp({ ip: "127.0.0.1", port: 80 }, {
      clock,
      log,
      handle: (got) => {
        assert.equal(got, connection);
        accepted++;
      },
    });
    const pausesMs: number[] = [];
    for (let n = 0; n < 10; n++) {
      await clock.untilSleeping(1_000);
      pausesMs.push(clock.nextInMs!);
      await clock.advance(clock.nextInMs!);
    }
    assert.deepEqual(pausesMs, [
      ...[10, 20, 40, 80, 160, 320, 640],
      ...[1_000, 1_000, 1_000],
    ]);
    assert.equal(accepted, 1);
    assert.equal(clock.nextInMs, 10, "a success begins the pauses anew");
    assert.deepEqual(lines, ["Cannot accept connections; trying again"]);
    listener.close();
    await listener.ended;
    log[Symbol.dispose]();
    assert.equal(clock.sleeping, 0);
  });
});

Deno.test("listenTcp() takes a client that left before it was accepted in its stride", async () => {
  const clock = new FakeClock();
  const log = new RepeatedLog({ clock, write: () => assert.fail() });
  let attempts = 0;
  const accept = () =>
    attempts++ < 3
      ? Promise.reject(new Deno.errors.ConnectionAborted("aborted"))
      : new Promise<Deno.TcpConn>(() => {});
  await withFakeSocket(accept, async () => {
    const listener = listenTcp({ ip: "127.0.0.1", port: 80 }, {
      clock,
      log,
      handle: () => assert.fail(),
    });
    await settle();
    assert.equal(attempts, 4);
    assert.equal(clock.sleeping, 0);
    listener.close();
    await listener.ended;
  });
});

Deno.test("listenTcp() does not wait after clients that reset before they were accepted", async () => {
  const clock = new FakeClock(); // never moves: a pause would not end
  const log = new RepeatedLog({ clock, write: () => assert.fail() });
  const accepted = Promise.withResolvers<void>();
  const listener = listenTcp({ ip: "127.0.0.1", port: 0 }, {
    clock,
    log,
    handle: (connection) => {
      connection.close();
      accepted.resolve();
    },
  });
  connectAndReset(listener.address);
  using _last = await dialServer(listener.address);
  await within(10_000, accepted.promise);
  listener.close();
  await listener.ended;
});

/** Twenty times, by a program that we wait for without accepting anybody. */
function connectAndReset({ port }: EndpointAddress): void {
  const script = `
    import { connect } from "node:net";
    for (let left = 20; left > 0; left--) {
      const socket = connect(${port}, "127.0.0.1");
      socket.on("connect", () => socket.resetAndDestroy());
    }`;
  const { success } = new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
  }).outputSync();
  assert.ok(success);
}

/** What becomes of each of them; `undefined`: it is gone before. */
const WAITING: Readonly<
  Record<string, ((grown: () => void) => void) | undefined>
> = {
  "": () => {},
  " to be turned away": (grown) => grown(),
  " that have reset": undefined,
};

for (const [what, handle] of Object.entries(WAITING)) {
  Deno.test(`listenTcp() lets others have their turn while thousands of clients wait${what}`, async () => {
    const clock = new FakeClock();
    const log = new RepeatedLog({ clock, write: () => {} });
    const connection = {} as Deno.TcpConn;
    let accepted = 0;
    // As Deno does while there is a backlog: at once.
    const accept = () => {
      if (accepted === 2_000) return new Promise<Deno.TcpConn>(() => {});
      accepted++;
      return handle === undefined
        ? Promise.reject(new Deno.errors.NotConnected("gone"))
        : Promise.resolve(connection);
    };
    await withFakeSocket(accept, async () => {
      const listener = listenTcp({ ip: "127.0.0.1", port: 80 }, {
        clock,
        log,
        handle: (_connection, grown) => handle?.(grown),
      });
      const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
      await turn();
      assert.ok(accepted > 0 && accepted < 100, `${accepted} in one turn`);
      while (accepted < 2_000) await turn();
      listener.close();
      await listener.ended;
    });
  });
}

Deno.test("listenTcp() accepts who waits before it leaves the address to another process", async () => {
  const clock = new FakeClock();
  const log = new RepeatedLog({ clock, write: () => assert.fail() });
  const connection = {} as Deno.TcpConn;
  const first = Promise.withResolvers<Deno.TcpConn>();
  let attempts = 0;
  let accepted = 0;
  const accept = () => {
    attempts++;
    if (attempts === 1) return first.promise;
    if (attempts === 3) {
      return Promise.reject(new Deno.errors.ConnectionAborted("aborted"));
    }
    return attempts <= 5
      ? Promise.resolve(connection)
      : new Promise<Deno.TcpConn>(() => {});
  };
  await withFakeSocket(accept, async () => {
    const listener = listenTcp({ ip: "127.0.0.1", port: 80 }, {
      clock,
      log,
      reusePort: true,
      handle: () => void accepted++,
    });
    await settle();
    const left = listener.leave();
    await settle();
    assert.equal(attempts, 1, "it waits for a client");
    first.resolve(connection);
    await within(10_000, left);
    listener.close();
    assert.equal(accepted, 4);
    assert.equal(attempts, 6, "and found the queue empty");
  });
});

Deno.test("listenTcp() leaves an address where nobody comes to another process soon", async () => {
  const log = new RepeatedLog({ clock: new FakeClock(), write: () => {} });
  const listener = listenTcp({ ip: "127.0.0.1", port: 0 }, {
    clock: new FakeClock(),
    log,
    reusePort: true,
    handle: () => assert.fail(),
  });
  await settle();
  await within(10_000, listener.leave());
  const { ip: hostname, port } = listener.address;
  await assert.rejects(Deno.connect({ hostname, port }));
});

Deno.test("listenTcp() accepts all who wait before it leaves, though they be hundreds", async () => {
  const log = new RepeatedLog({ clock: new FakeClock(), write: () => {} });
  const accepted = [0, 0, 0, 0];
  const listeners = accepted.map((_, index) =>
    listenTcp({ ip: "127.0.0.1", port: 0 }, {
      clock: new FakeClock(),
      log,
      reusePort: true,
      handle(connection) {
        accepted[index]!++;
        // As for an early read, which counts with Tokio as well.
        const buffer = new Uint8Array(1);
        connection.read(buffer).catch(() => {}).finally(() => {
          connection.close();
        });
      },
    })
  );
  connectMany(listeners.map(({ address }) => address.port), 100);
  await within(10_000, Promise.all(listeners.map((each) => each.leave())));
  assert.deepEqual(accepted, [100, 100, 100, 100]);
});

/** By a program that we wait for without accepting anybody. */
function connectMany(ports: readonly number[], count: number): void {
  const script = `
    const each = (port) => Deno.connect({ hostname: "127.0.0.1", port });
    const ports = ${JSON.stringify(ports)};
    const all = ports.flatMap((port) => Array(${count}).fill(port));
    await Promise.all(all.map(each));
    Deno.exit();`;
  const { success } = new Deno.Command(Deno.execPath(), {
    args: ["eval", script],
  }).outputSync();
  assert.ok(success);
}
