/**
 * How long a changed policy takes to get to a data thread: from the call until
 * the thread, which waits in `epoll_wait`, has it in its hands. Linux with FFI.
 *
 *     deno run -A test/bench/mail_latency.ts [--count 3000] [--endpoints 3]
 *
 * Beside it, in turn, a thread that is woken in the same way and only notes
 * the time: what that takes is the machine's. Both where the sender rests when
 * it has sent, and where it goes on computing, so that a thread that was woken
 * on its CPU has to get there.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLLET,
  EPOLLIN,
  type Libc,
  openLibc,
  openLibrary,
} from "../../proxy/engine/splice/libc.ts";
import {
  MAIL_BYTES,
  Mailbox,
  MailSender,
} from "../../proxy/engine/splice/mailbox.ts";
import type { Command } from "../../proxy/engine/splice/messages.ts";
import { Poller } from "../../proxy/engine/splice/poller.ts";
import { policy } from "../conformance/engine.ts";

/** How often a thread is woken before it counts, while V8 compiles. */
const WARM_UP = 200;

interface Start {
  readonly wakeFd: number;
  readonly mailCount: SharedArrayBuffer;
  /** How often it was woken; -1 as soon as it waits. */
  readonly seen: SharedArrayBuffer;
  /** When it was woken, and when it had its mail, both in µs. */
  readonly times: SharedArrayBuffer;
  /** It gets no mail. */
  readonly isBare: boolean;
}

/** The loop of `thread.ts`, with nothing in it but mail. */
function beThread(scope: { onmessage: unknown }): void {
  let mailbox: Mailbox | undefined;
  const run = async (start: Start, box: Mailbox) => {
    const poller = new Poller(openLibc());
    const now = clock();
    poller.add(start.wakeFd, EPOLLIN | EPOLLET, { onEvents() {} });
    const seen = new Int32Array(start.seen);
    const times = new Float64Array(start.times);
    Atomics.store(seen, 0, -1);
    for (let count = 0;;) {
      poller.wait(-1);
      times[0] = now();
      if (box.hasMail) {
        const commands = await box.take();
        // A thread in epoll_wait cannot be terminated.
        if (commands.some(({ type }) => type === "close")) return close();
      } else if (!start.isBare) continue;
      times[1] = now();
      Atomics.store(seen, 0, ++count);
    }
  };
  scope.onmessage = ({ data }: MessageEvent) => {
    if (mailbox !== undefined) return mailbox.receive(data);
    mailbox = new Mailbox(data.mailCount);
    run(data, mailbox);
  };
}

/** The same clock in each thread, unlike `performance.now`; µs. */
function clock(): () => number {
  const { symbols } = openLibrary({
    clock_gettime: { parameters: ["i32", "buffer"], result: "i32" },
  });
  const CLOCK_MONOTONIC = 1;
  const time = new BigInt64Array(2);
  return () => {
    symbols.clock_gettime(CLOCK_MONOTONIC, time);
    return Number(time[0]) * 1e6 + Number(time[1]) / 1e3;
  };
}

interface Thread {
  readonly wakeFd: number;
  readonly seen: Int32Array;
  readonly times: Float64Array;
  readonly mail: MailSender;
  count: number;
}

async function startThread(libc: Libc, isBare: boolean): Promise<Thread> {
  const wakeFd = libc.call.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const mailCount = new SharedArrayBuffer(MAIL_BYTES);
  const seen = new Int32Array(new SharedArrayBuffer(4));
  const times = new Float64Array(new SharedArrayBuffer(16));
  const worker = new Worker(import.meta.url, { type: "module" });
  const start: Start = {
    wakeFd,
    mailCount,
    seen: seen.buffer,
    times: times.buffer,
    isBare,
  };
  worker.postMessage(start);
  const mail = new MailSender(libc, { worker, wakeFd, mailCount });
  while (Atomics.load(seen, 0) !== -1) await pause(10);
  return { wakeFd, seen, times, mail, count: 0 };
}

/** µs until the thread runs, and until it has what was sent. */
interface Took {
  readonly woken: number[];
  readonly taken: number[];
}

/** Wakes it once, when it sits in `epoll_wait` again. */
async function wake(
  thread: Thread,
  send: () => void,
  { now, computes, took }: {
    readonly now: () => number;
    readonly computes: boolean;
    readonly took: Took;
  },
): Promise<void> {
  const { seen, times } = thread;
  await pause(1);
  const count = ++thread.count;
  const sentAt = now();
  send();
  while (Atomics.load(seen, 0) < count) if (!computes) await pause(1);
  took.woken.push(times[0]! - sentAt);
  took.taken.push(times[1]! - sentAt);
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      count: { type: "string", default: "3000" },
      endpoints: { type: "string", default: "3" },
    },
  });
  const libc = openLibc();
  const now = clock();
  const [bare, data] = [
    await startThread(libc, true),
    await startThread(libc, false),
  ];
  const command = policyOf(Number(values.endpoints));
  const one = new Uint8Array(new BigUint64Array([1n]).buffer);
  const wakeBare = () => {
    libc.call.write(bare.wakeFd, one, 8);
    libc.call.sched_yield();
  };
  const rows: string[][] = [];
  for (const computes of [false, true]) {
    const tookBare: Took = { woken: [], taken: [] };
    const took: Took = { woken: [], taken: [] };
    for (let n = -WARM_UP; n < Number(values.count); n++) {
      if (n === 0) tookBare.woken.length = took.woken.length = 0;
      if (n === 0) took.taken.length = 0;
      await wake(bare, wakeBare, { now, computes, took: tookBare });
      const send = () => data.mail.send([command]);
      await wake(data, send, { now, computes, took });
    }
    const sender = computes ? "computes" : "rests";
    rows.push(
      row(sender, "a thread that only notes the time, woken", tookBare.woken),
      row(sender, "the data thread, woken", took.woken),
      row(sender, "the data thread, policy taken", took.taken),
    );
  }
  for (const { mail } of [bare, data]) mail.send([{ type: "close" }]);
  print(
    `${values.count} policies of ${values.endpoints} endpoints, µs from the call\n\n` +
      table(["SENDER", "UNTIL", "P50", "P99", "P99.9", "MAX"], rows),
  );
}

function policyOf(count: number): Command {
  const endpoints = Array.from(
    { length: count },
    (_, n) => ({ ip: `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, port: 80 }),
  );
  return {
    type: "policy",
    port: 1,
    generation: 2,
    policy: policy(endpoints),
    lines: new Map(endpoints.map(({ ip }, n) => [`${ip}:80`, n])),
    timings: [],
  };
}

function row(sender: string, until: string, tookUs: number[]): string[] {
  tookUs.sort((a, b) => a - b);
  const at = (part: number) =>
    Math.round(tookUs[Math.floor((tookUs.length - 1) * part)]!).toString();
  return [sender, until, at(0.5), at(0.99), at(0.999), at(1)];
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// `import.meta.main` is true in a worker's first file, too.
if ("DedicatedWorkerGlobalScope" in globalThis) {
  beThread(globalThis as unknown as { onmessage: unknown });
} else await main();
