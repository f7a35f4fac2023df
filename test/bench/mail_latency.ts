/**
 * How long a changed policy takes to get to a data thread: from the call until
 * the thread, which waits in `epoll_wait`, has it in its hands. Linux with FFI.
 *
 *     deno run -A test/bench/mail_latency.ts [--count 5000] [--endpoints 3]
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print } from "../../proxy/commands/terminal.ts";
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLLET,
  EPOLLIN,
  openLibc,
} from "../../proxy/engine/splice/libc.ts";
import {
  MAIL_BYTES,
  Mailbox,
  MailSender,
} from "../../proxy/engine/splice/mailbox.ts";
import type { Command } from "../../proxy/engine/splice/messages.ts";
import { Poller } from "../../proxy/engine/splice/poller.ts";
import { policy } from "../conformance/engine.ts";

interface Start {
  readonly wakeFd: number;
  readonly mailCount: SharedArrayBuffer;
  /** How many commands it has. */
  readonly seen: SharedArrayBuffer;
}

/** The loop of `thread.ts`, with nothing in it but mail. */
function beThread(scope: { onmessage: unknown }): void {
  let mailbox: Mailbox | undefined;
  const run = async (start: Start, box: Mailbox) => {
    const poller = new Poller(openLibc());
    poller.add(start.wakeFd, EPOLLIN | EPOLLET, { onEvents() {} });
    const seen = new Int32Array(start.seen);
    Atomics.store(seen, 0, -1);
    for (let count = 0;;) {
      poller.wait(-1);
      if (!box.hasMail) continue;
      const commands = await box.take();
      // A thread in epoll_wait cannot be terminated.
      if (commands.some(({ type }) => type === "close")) return close();
      count += commands.length;
      Atomics.store(seen, 0, count);
    }
  };
  scope.onmessage = ({ data }: MessageEvent) => {
    if (mailbox !== undefined) return mailbox.receive(data);
    mailbox = new Mailbox(data.mailCount);
    run(data, mailbox);
  };
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      count: { type: "string", default: "5000" },
      endpoints: { type: "string", default: "3" },
    },
  });
  const libc = openLibc();
  const wakeFd = libc.call.eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  const mailCount = new SharedArrayBuffer(MAIL_BYTES);
  const seen = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(import.meta.url, { type: "module" });
  const start: Start = { wakeFd, mailCount, seen: seen.buffer };
  worker.postMessage(start);
  const sender = new MailSender(libc, { worker, wakeFd, mailCount });
  while (Atomics.load(seen, 0) !== -1) await pause(10);
  const endpoints = Array.from(
    { length: Number(values.endpoints) },
    (_, n) => ({ ip: `10.${n >> 16}.${(n >> 8) & 255}.${n & 255}`, port: 80 }),
  );
  const lines = new Map(endpoints.map(({ ip }, n) => [`${ip}:80`, n]));
  const command: Command = {
    type: "policy",
    port: 1,
    generation: 2,
    policy: policy(endpoints),
    lines,
    timings: [],
  };
  const tookUs: number[] = [];
  for (let count = 1; count <= Number(values.count); count++) {
    // It sits in epoll_wait again by then.
    await pause(1);
    const sentAt = performance.now();
    sender.send([command]);
    while (Atomics.load(seen, 0) < count);
    tookUs.push((performance.now() - sentAt) * 1_000);
  }
  sender.send([{ type: "close" }]);
  tookUs.sort((a, b) => a - b);
  const at = (part: number) =>
    Math.round(tookUs[Math.floor((tookUs.length - 1) * part)]!);
  print(
    `${values.count} policies of ${values.endpoints} endpoints: ` +
      `p50 ${at(0.5)} µs, p99 ${at(0.99)} µs, max ${at(1)} µs\n`,
  );
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

// `import.meta.main` is true in a worker's first file, too.
if ("DedicatedWorkerGlobalScope" in globalThis) {
  beThread(globalThis as unknown as { onmessage: unknown });
} else await main();
