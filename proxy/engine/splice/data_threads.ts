/**
 * The data threads, as the control thread has them: starts them, speaks to
 * them, and ends them with everything that is theirs. In: commands. Out: what
 * they report.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { errnoError } from "./errors.ts";
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  type Libc,
  O_CLOEXEC,
  O_NONBLOCK,
} from "./libc.ts";
import { MAIL_BYTES, MailSender } from "./mailbox.ts";
import type { Command, Report, ThreadStart, UdpStart } from "./messages.ts";

const logger = getLogger("engine");

/** Where all of the program is one file of JavaScript, that file is it. */
const WORKER = import.meta.url.endsWith(".js")
  ? import.meta.url
  : new URL("./worker.ts", import.meta.url);

export interface DataThreadsOptions {
  readonly count: number;
  readonly libc: Libc;
  readonly dialTimeoutsMs: readonly number[];
  readonly lingerMs: number;
  readonly udp: UdpStart;
  readonly receive: (report: Report) => void;
}

/** So many commands are sent without waiting for more. */
const WAITING_MAX = 256;

/**
 * Whether a command may be sent with others, when the control thread is done
 * with what it is doing: those that make something new, which nobody can tell
 * from the same a moment later. With 10,000 Services there are 30,000 of them,
 * and a message costs each of the two threads more than what is in it.
 */
function canWait(command: Command): boolean {
  switch (command.type) {
    case "policy":
    case "udp policy":
      return command.generation === 1;
    case "table":
    case "port":
    case "listen":
    case "udp listen":
    // A policy follows.
    case "age limit":
    case "forget":
      return true;
    default:
      return false;
  }
}

interface Thread {
  readonly worker: Worker;
  readonly mail: MailSender;
  /** Not sent yet. */
  waiting: Command[];
  readonly closed: PromiseWithResolvers<void>;
}

export class DataThreads implements AsyncDisposable {
  readonly #libc: Libc;
  readonly #threads: readonly Thread[];
  /** Ours, beside what the threads make themselves. */
  readonly #fds: number[] = [];
  /** How many commands wait, and what is going to send them. */
  #waiting = 0;
  #sending: ReturnType<typeof setImmediate> | undefined;
  #isClosing = false;
  /**
   * Resolves when all run.
   *
   * @throws what keeps one of them from running; the others are to be disposed
   *   of
   */
  readonly ready: Promise<void>;
  readonly #died = Promise.withResolvers<never>();
  /**
   * Never resolves.
   *
   * @throws as soon as a thread that ran is no more. What it had is lost, and
   *   its listeners let clients wait that nobody serves: the program must end
   */
  readonly failed: Promise<never> = this.#died.promise;

  constructor(options: DataThreadsOptions) {
    const { count } = options;
    this.#libc = options.libc;
    const { handOver, wakeFds } = this.#open(count);
    const running: Promise<void>[] = [];
    this.#threads = wakeFds.map((wakeFd, index) => {
      const ready = Promise.withResolvers<void>();
      running.push(ready.promise);
      const start: ThreadStart = {
        index,
        mailCount: new SharedArrayBuffer(MAIL_BYTES),
        wakeFd,
        handOver,
        dialTimeoutsMs: options.dialTimeoutsMs,
        lingerMs: options.lingerMs,
        udp: index === count - 1 ? options.udp : undefined,
      };
      return this.#start(start, { ready, receive: options.receive });
    });
    this.ready = Promise.all(running).then(() => {});
    // Whoever listens awaits it; nobody need.
    this.ready.catch(() => {});
    this.failed.catch(() => {});
  }

  /**
   * To thread 0, to the one that has UDP (the last, which accepts only if it is
   * alone), or to all.
   *
   * What changes something that is served is sent at once; see `canWait`.
   */
  send(command: Command, to: "acceptor" | "udp" | "all"): void {
    if (this.#isClosing) return;
    const last = to === "acceptor" ? 0 : this.#threads.length - 1;
    const first = to === "udp" ? last : 0;
    for (let index = last; index >= first; index--) {
      this.#threads[index]!.waiting.push(command);
    }
    if (!canWait(command) || ++this.#waiting >= WAITING_MAX) this.#flush();
    else this.#sending ??= setImmediate(() => this.#flush());
  }

  /** To thread 0 last, since it makes use of what the others know. */
  #flush(): void {
    if (this.#sending !== undefined) clearImmediate(this.#sending);
    this.#sending = undefined;
    this.#waiting = 0;
    for (const thread of this.#threads.toReversed()) {
      if (thread.waiting.length === 0) continue;
      thread.mail.send(thread.waiting);
      thread.waiting = [];
    }
  }

  /** Ends all connections, and the threads. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosing) return;
    this.#isClosing = true;
    this.#flush();
    // One after another: what thread 0 has handed over must have arrived.
    for (const { mail, closed, worker } of this.#threads) {
      mail.send([{ type: "close" }]);
      await closed.promise;
      worker.terminate();
    }
    this.#closeAll();
  }

  /** All that threads need of us, before any is started: or nothing. */
  #open(count: number) {
    const flags = EFD_NONBLOCK | EFD_CLOEXEC;
    const each = { length: count };
    try {
      return {
        handOver: count === 1 ? [] : Array.from(each, () => this.#pipe()),
        wakeFds: Array.from(
          each,
          () => this.#own(this.#libc.call.eventfd(0, flags)),
        ),
      };
    } catch (error) {
      this.#closeAll();
      throw error;
    }
  }

  #closeAll(): void {
    for (const fd of this.#fds.splice(0)) this.#libc.call.close(fd);
  }

  #start(
    start: ThreadStart,
    { ready, receive }: {
      readonly ready: PromiseWithResolvers<void>;
      readonly receive: (report: Report) => void;
    },
  ): Thread {
    const closed = Promise.withResolvers<void>();
    const worker = new Worker(WORKER, {
      type: "module",
      name: `kube-portal data thread ${start.index}`,
    });
    worker.onmessage = ({ data }: MessageEvent<Report>) => {
      if (data.type === "ready") ready.resolve();
      else if (data.type === "unable") {
        ready.reject(new Error(data.reason));
        closed.resolve();
      } else if (data.type === "closed") closed.resolve();
      else receive(data);
    };
    worker.onerror = (event) => {
      event.preventDefault();
      const error = new Error(`A data thread has died: ${event.message}`);
      logger.error("A data thread has died; its connections are lost", {
        thread: start.index,
        error: event.message,
      });
      ready.reject(error);
      this.#died.reject(error);
      closed.resolve();
    };
    worker.postMessage(start);
    const { wakeFd, mailCount } = start;
    const mail = new MailSender(this.#libc, { worker, wakeFd, mailCount });
    return { worker, mail, waiting: [], closed };
  }

  #pipe(): { readFd: number; writeFd: number } {
    const fds = new Int32Array(2);
    this.#check(this.#libc.call.pipe2(fds, O_NONBLOCK | O_CLOEXEC));
    return { readFd: this.#own(fds[0]!), writeFd: this.#own(fds[1]!) };
  }

  #own(fd: number): number {
    this.#check(fd);
    this.#fds.push(fd);
    return fd;
  }

  #check(result: number): void {
    if (result !== -1) return;
    throw errnoError("Cannot start data threads", this.#libc.errno());
  }
}
