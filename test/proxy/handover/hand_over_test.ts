import assert from "node:assert/strict";
import { ListeningSockets } from "../../../proxy/engine/listening_sockets.ts";
import type { Libc } from "../../../proxy/engine/splice/libc.ts";
import {
  Giver,
  GIVER_TIMING,
  type GiverTiming,
} from "../../../proxy/handover/giver.ts";
import {
  Taker,
  TAKER_TIMING,
  type TakerTiming,
} from "../../../proxy/handover/taker.ts";
import {
  connectToHolder,
  isHeld,
  type SteeringLock,
  takeSteeringLock,
} from "../../../proxy/rules/lock.ts";
import { ffi, testLibc } from "../../support/ffi.ts";
import { testWith } from "../../support/needs.ts";

const ANY = { ip: "127.0.0.1", port: 0 };
const VERSION = "0.1.0";
const LIMIT_MS = 20_000;
let count = 0;

/** No namespace is handed over here. */
const NO_NAMESPACES = {
  open: () => assert.fail("no namespace"),
  adopt: () => assert.fail("no namespace"),
  close: () => assert.fail("no namespace"),
};

/** A process that steers, and what it was told. */
class Old implements Disposable {
  readonly lockName = `\0kube-portal-test-${Deno.pid}-${count++}`;
  readonly said: string[] = [];
  readonly resumed = Promise.withResolvers<void>();
  readonly giver: Giver;
  lock!: SteeringLock;
  /** What it waits for until nothing is being written. */
  pausing: () => Promise<void> = () => Promise.resolve();

  constructor(
    readonly sockets: ListeningSockets | undefined,
    timing: Partial<GiverTiming> = {},
  ) {
    this.giver = new Giver({
      version: VERSION,
      sockets,
      namespaces: NO_NAMESPACES,
      timing: { ...GIVER_TIMING, ...timing },
      pause: () => {
        this.said.push("pause");
        return this.pausing();
      },
      resume: () => {
        this.said.push("resume");
        this.resumed.resolve();
      },
    });
  }

  async hold(): Promise<this> {
    const lock = await takeSteeringLock("steer", this.lockName);
    assert.ok(!isHeld(lock));
    this.lock = lock;
    lock.serve?.((connection) => this.giver.talk(connection));
    return this;
  }

  /** As the program does when somebody serves everything. */
  async leave(): Promise<void> {
    this.lock[Symbol.dispose]();
    await this.giver.left();
  }

  [Symbol.dispose](): void {
    this.lock[Symbol.dispose]();
  }
}

function taker(
  { lockName }: Old,
  sockets: ListeningSockets | undefined,
  timing: Partial<TakerTiming> = {},
): Taker {
  return new Taker({
    version: VERSION,
    sockets,
    namespaces: NO_NAMESPACES,
    lockName,
    timing: { ...TAKER_TIMING, askAgainMs: 50, ...timing },
  });
}

function signal(): AbortSignal {
  return AbortSignal.timeout(LIMIT_MS);
}

function socketsOf(libc: Libc): ListeningSockets {
  return new ListeningSockets(libc, undefined);
}

testWith(
  [ffi],
  "a process takes sockets and lock over, and the other one is told when it may leave",
  async () => {
    using libc = testLibc();
    const sockets = socketsOf(libc);
    // More than go into one message.
    const opened = Array.from({ length: 600 }, () => sockets.open(ANY));
    using old = await new Old(sockets).hold();
    const taken = socketsOf(libc);
    using next = taker(old, taken);
    await next.announce();
    assert.deepEqual(old.said, []);
    const lock = await next.takeLock("steer", signal());
    assert.deepEqual(old.said, ["pause"]);
    const got = opened.map(({ address }) => taken.open(address));
    const finished = next.finish();
    assert.equal(await old.giver.given, VERSION);
    // Also when there is nobody left to wait for.
    assert.equal(await old.giver.stopping(LIMIT_MS), true);
    await old.leave();
    await finished;
    assert.deepEqual(old.said, ["pause"]);
    // The lock is the next one's, and can be talked to.
    const heard = Promise.withResolvers<void>();
    lock.serve?.((connection) => {
      connection.close();
      heard.resolve();
      return Promise.resolve();
    });
    const found = await connectToHolder(old.lockName);
    assert.equal(found?.holder.heldBy, `pid ${Deno.pid}`);
    await heard.promise;
    found.connection?.close();
    for (const { fd } of [...opened, ...got]) libc.call.close(fd);
  },
);

testWith(
  [ffi],
  "a process that ends before it serves everything leaves the other one as it was",
  async () => {
    using libc = testLibc();
    const sockets = socketsOf(libc);
    const { fd } = sockets.open(ANY);
    using old = await new Old(sockets).hold();
    const taken = socketsOf(libc);
    const next = taker(old, taken);
    await next.takeLock("steer", signal());
    next[Symbol.dispose]();
    taken.dropInherited();
    await old.resumed.promise;
    assert.deepEqual(old.said, ["pause", "resume"]);
    // And another one may try.
    using second = taker(old, taken);
    await second.takeLock("steer", signal());
    taken.dropInherited();
    libc.call.close(fd);
  },
);

testWith(
  [ffi],
  "a process without descriptors hands over when it is told to stop",
  async () => {
    using libc = testLibc();
    for (const sockets of [undefined, socketsOf(libc)]) {
      using old = await new Old(sockets).hold();
      // One of the two cannot pass descriptors, or take them.
      using next = taker(old, sockets && undefined);
      await next.announce();
      const taking = next.takeLock("steer", signal());
      const stopped = old.giver.stopping(LIMIT_MS);
      await taking;
      const finished = next.finish();
      assert.equal(await stopped, true);
      await old.leave();
      await finished;
    }
  },
);

Deno.test({
  name: "nobody is waited for at the end who has not announced itself",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using old = await new Old(undefined).hold();
    assert.equal(await old.giver.stopping(LIMIT_MS), false);
  },
});

Deno.test({
  name: "whoever cannot prove who it is, and leaves, interrupts nothing",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using old = await new Old(undefined).hold();
    const ended = Promise.withResolvers<void>();
    old.lock.serve?.(async (connection) => {
      await old.giver.talk(connection);
      ended.resolve();
    });
    const found = await connectToHolder(old.lockName);
    assert.ok(found?.connection !== undefined);
    const hello = { type: "hello", protocol: 1, version: "9.0.0" };
    const lines = [hello, { type: "now" }].map((each) =>
      `${JSON.stringify(each)}\n`
    );
    await found.connection.write(new TextEncoder().encode(lines.join("")));
    await found.connection.read(new Uint8Array(1_024));
    found.connection.close();
    await ended.promise;
    assert.deepEqual(old.said, []);
  },
});

Deno.test({
  name: "another protocol is refused, and the end of the other one waited for",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using old = await new Old(undefined).hold();
    const found = await connectToHolder(old.lockName);
    assert.ok(found?.connection !== undefined);
    const hello = { type: "hello", protocol: 2, version: "9.0.0" };
    const bytes = new TextEncoder().encode(`${JSON.stringify(hello)}\n`);
    await found.connection.write(bytes);
    const answer = await new Response(found.connection.readable).text();
    assert.deepEqual(JSON.parse(answer), {
      type: "no",
      reason: "version 0.1.0 hands over by protocol 1, and not by 2",
    });
    assert.deepEqual(old.said, []);
  },
});

Deno.test({
  name: "a holder that does not hand over is waited for until it ends",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const lockName = `\0kube-portal-test-${Deno.pid}-${count++}`;
    // As versions before: says who it is, and no more.
    const lock = await takeSteeringLock("steer", lockName);
    assert.ok(!isHeld(lock));
    using next = new Taker({
      version: VERSION,
      sockets: undefined,
      namespaces: NO_NAMESPACES,
      lockName,
    });
    const taking = next.takeLock("steer", signal());
    await next.announce();
    lock[Symbol.dispose]();
    const taken = await taking;
    await next.finish();
    taken[Symbol.dispose]();
  },
});

Deno.test({
  name: "nonsense at the lock changes nothing",
  ignore: Deno.build.os !== "linux",
  async fn() {
    using old = await new Old(undefined).hold();
    for (
      const text of ["\n", "{}\n", "take over\n", "[1]\n", '{"type":"now"}\n']
    ) {
      const found = await connectToHolder(old.lockName);
      assert.ok(found?.connection !== undefined);
      await found.connection.write(new TextEncoder().encode(text));
      const answer = await new Response(found.connection.readable).text();
      assert.equal(answer, "", text);
    }
    assert.deepEqual(old.said, []);
  },
});

/** Somebody who has connected to the lock, and says nothing. */
async function silentClient(lockName: string): Promise<Deno.Conn> {
  const found = await connectToHolder(lockName);
  assert.ok(found?.connection !== undefined);
  return found.connection;
}

testWith(
  [ffi],
  "clients of the lock that say nothing keep no process out that proves who it is",
  async () => {
    using libc = testLibc();
    const sockets = socketsOf(libc);
    using old = await new Old(sockets).hold();
    await using stack = new AsyncDisposableStack();
    const silent: Deno.Conn[] = [];
    const fill = async () => {
      for (let each = 0; each < 8; each++) {
        silent.push(stack.use(await silentClient(old.lockName)));
      }
    };
    await fill();
    const taken = socketsOf(libc);
    using next = taker(old, taken);
    await next.announce();
    // The one that had waited longest made room.
    assert.equal(await silent[0]?.read(new Uint8Array(1)), null);
    // And none takes the place of who has proven itself.
    await fill();
    await next.takeLock("steer", signal());
    assert.deepEqual(old.said, ["pause"]);
  },
);

testWith(
  [ffi],
  "a pause that takes long is waited for, as long as the other process says so",
  async () => {
    using libc = testLibc();
    const sockets = socketsOf(libc);
    using old = await new Old(sockets, { sayEveryMs: 50 }).hold();
    const paused = Promise.withResolvers<void>();
    old.pausing = () => paused.promise;
    using next = taker(old, socketsOf(libc), { answerMs: 1_000 });
    const taking = next.takeLock("steer", signal());
    // Longer than any one answer has.
    await new Promise((resolve) => setTimeout(resolve, 1_300));
    paused.resolve();
    await taking;
    assert.deepEqual(old.said, ["pause"]);
  },
);

testWith(
  [ffi],
  "a pause that does not end, or fails, is given up, and the next try succeeds",
  async () => {
    using libc = testLibc();
    for (
      const pausing of [
        () => new Promise<void>(() => {}),
        () => Promise.reject(new Error("it cannot")),
      ]
    ) {
      using old = await new Old(socketsOf(libc), { pauseMs: 100 }).hold();
      old.pausing = pausing;
      using next = taker(old, socketsOf(libc));
      const taking = next.takeLock("steer", signal());
      await old.resumed.promise;
      old.pausing = () => Promise.resolve();
      await taking;
      assert.deepEqual(old.said.slice(0, 2), ["pause", "resume"]);
      assert.equal(old.said.at(-1), "pause");
    }
  },
);

testWith(
  [ffi],
  "a process that came second takes over when the first has failed to",
  async () => {
    using libc = testLibc();
    using old = await new Old(socketsOf(libc)).hold();
    const first = taker(old, socketsOf(libc));
    await first.takeLock("steer", signal());
    using second = taker(old, socketsOf(libc));
    const taking = second.takeLock("steer", signal());
    first[Symbol.dispose]();
    await taking;
    assert.deepEqual(old.said, ["pause", "resume", "pause"]);
  },
);
