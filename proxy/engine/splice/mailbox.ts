/**
 * How commands reach a thread that sits in `epoll_wait` and therefore hears no
 * messages: they are posted as always, a counter in shared memory says how
 * many, and an eventfd in the thread's epoll set wakes it. It then lets its
 * event loop turn until it has received them all.
 *
 * A queue in shared memory would save that turn. Measured (./README.md), a
 * thread that has rested takes its mail 0.3 ms after the call; and this way
 * commands are plain objects, of any size, that nobody has to encode.
 *
 * @module
 */
import type { Libc } from "./libc.ts";
import type { Command } from "./messages.ts";

/** What `ThreadStart.mailCount` has, in bytes: how many, and 1 while awake. */
export const MAIL_BYTES = 8;
const AWAKE = 1;

const ONE = new Uint8Array(new BigUint64Array([1n]).buffer);

/** The sender's end. */
export class MailSender {
  readonly #libc: Libc;
  readonly #worker: Worker;
  readonly #wakeFd: number;
  readonly #sent: Int32Array;

  constructor(
    libc: Libc,
    options: {
      readonly worker: Worker;
      readonly wakeFd: number;
      readonly mailCount: SharedArrayBuffer;
    },
  ) {
    this.#libc = libc;
    this.#worker = options.worker;
    this.#wakeFd = options.wakeFd;
    this.#sent = new Int32Array(options.mailCount);
  }

  /**
   * Whatever becomes visible to the thread after this returns (a connection
   * that is made then, say), it acts on the commands first.
   *
   * A thread that was woken and has not looked yet need not be woken again. One
   * that is woken on the CPU of this thread would have to wait until that has
   * done all it has to do, or for the scheduler's next tick: up to 4 ms, in one
   * case of ten on two CPUs. So this thread lets it go first.
   */
  send(commands: readonly Command[]): void {
    this.#worker.postMessage(commands);
    Atomics.add(this.#sent, 0, 1);
    if (Atomics.exchange(this.#sent, AWAKE, 1) === 1) return;
    this.#libc.call.write(this.#wakeFd, ONE, 8);
    this.#libc.call.sched_yield();
  }
}

/** The receiver's end. */
export class Mailbox {
  readonly #sent: Int32Array;
  #commands: readonly Command[] = [];
  #received = 0;
  #arrived: (() => void) | undefined;

  constructor(mailCount: SharedArrayBuffer) {
    this.#sent = new Int32Array(mailCount);
  }

  /** Call it with every message. */
  receive(commands: readonly Command[]): void {
    this.#received = (this.#received + 1) | 0; // wraps as Atomics.add does
    if (this.#commands.length === 0) this.#commands = commands;
    else this.#commands = [...this.#commands, ...commands];
    this.#arrived?.();
  }

  /** Cheap: one look at shared memory. Who looks is awake. */
  get hasMail(): boolean {
    // First, and then the look: what is sent after it wakes again.
    Atomics.store(this.#sent, AWAKE, 0);
    return this.#commands.length > 0 || this.#isExpecting;
  }

  get #isExpecting(): boolean {
    return Atomics.load(this.#sent, 0) !== this.#received;
  }

  /** All that was sent before this was called, in order. */
  async take(): Promise<readonly Command[]> {
    while (this.#isExpecting) {
      await new Promise<void>((resolve) => this.#arrived = resolve);
    }
    const commands = this.#commands;
    this.#commands = [];
    return commands;
  }
}
