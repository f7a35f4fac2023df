/**
 * A data thread: one loop around one `epoll_wait`. In: commands by mail, events
 * of sockets, pairs of sockets from thread 0. Out: bytes moved, counters in
 * shared memory, reports. Thread 0 is also the acceptor; the others only have
 * connections.
 *
 * @module
 */
import { Acceptor } from "./acceptor.ts";
import type { ConnectionTools } from "./connection.ts";
import { Connections } from "./connections.ts";
import { EventLog } from "./event_log.ts";
import { COPY_BYTES, type Half, READ_EVENTS } from "./half.ts";
import { type HandedOver, HandOverInbox, HandOverSender } from "./hand_over.ts";
import { EPOLLET, EPOLLIN, type Libc } from "./libc.ts";
import type { Mailbox } from "./mailbox.ts";
import type { Command, Report, ThreadStart } from "./messages.ts";
import { PipePool } from "./pipes.ts";
import { Poller } from "./poller.ts";
import { SharedCounters } from "./shared_counters.ts";
import { Timers } from "./timers.ts";
import { UdpThread } from "./udp_thread.ts";

/** Until records that found no room are written again, in milliseconds. */
const FLUSH_MS = 1;

export interface DataThreadOptions {
  readonly libc: Libc;
  readonly mailbox: Mailbox;
  readonly start: ThreadStart;
  readonly post: (report: Report) => void;
}

/** A ServicePort's share of this thread. */
interface Port {
  readonly line: number;
  readonly connections: Connections;
}

export class DataThread implements ConnectionTools {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly pipes: PipePool;
  readonly timers = new Timers();
  readonly buffer = new Uint8Array(COPY_BYTES);
  readonly lingerMs: number;
  now = performance.now();
  openConnections = 0;
  readonly #options: DataThreadOptions;
  readonly #counters = new SharedCounters();
  readonly #events: EventLog;
  readonly #ports = new Map<number, Port>();
  readonly #acceptor: Acceptor | undefined;
  /** To thread 0; none in thread 0. */
  readonly #toAcceptor: HandOverSender | undefined;
  readonly #inbox: HandOverInbox | undefined;
  /** In the last thread. */
  readonly #udp: UdpThread | undefined;
  #again: Half[] = [];
  #isClosing = false;

  constructor(options: DataThreadOptions) {
    const { libc, start, post } = options;
    this.#options = options;
    this.libc = libc;
    this.poller = new Poller(libc);
    this.pipes = new PipePool(libc);
    this.lingerMs = start.lingerMs;
    this.#events = new EventLog(
      this.timers,
      (events) => post({ type: "events", events }),
    );
    // Edge-triggered, so that it need not be read to fall silent.
    this.poller.add(start.wakeFd, EPOLLIN | EPOLLET, { onEvents() {} });
    const senders = start.handOver.map(({ writeFd }) =>
      new HandOverSender(libc, writeFd)
    );
    const inbox = start.handOver[start.index];
    if (inbox !== undefined) {
      this.#inbox = new HandOverInbox(libc, {
        fd: inbox.readFd,
        receiver: this,
      });
      this.poller.add(inbox.readFd, EPOLLIN, this.#inbox);
    }
    this.#udp = start.udp && new UdpThread({
      start: start.udp,
      libc,
      poller: this.poller,
      timers: this.timers,
      counters: this.#counters,
      now: () => this.now,
      log: (event) => this.#events.add(event, this.now),
      post,
    });
    if (start.index > 0) this.#toAcceptor = senders[0];
    else {
      this.#acceptor = new Acceptor({
        tools: this,
        dialTimeoutsMs: start.dialTimeoutsMs,
        counters: this.#counters,
        events: this.#events,
        others: senders.slice(1),
        connections: (port) => this.#ports.get(port)?.connections,
        line: (port) => this.#ports.get(port)!.line,
        post,
      });
    }
  }

  /** Until `close` comes. All of its own descriptors are closed then. */
  async run(): Promise<void> {
    const { mailbox } = this.#options;
    while (!this.#isClosing) {
      this.poller.wait(this.#waitMs());
      this.now = performance.now();
      // Before any event: what was told is older than what happened.
      if (mailbox.hasMail) {
        for (const command of await mailbox.take()) this.#apply(command);
      }
      this.poller.dispatch((error) => this.#failed(error));
      this.timers.run(this.now);
      this.#goOn();
      this.#toAcceptor?.flush();
      this.poller.finishRound();
      this.#udp?.finishRound();
    }
    this.#close();
  }

  again(half: Half): void {
    this.#again.push(half);
  }

  /** From thread 0. */
  opened({ id, port, clientFd, endpointFd, sentBytes }: HandedOver): void {
    const ended = () => this.#toAcceptor!.ended(id);
    const connections = this.#ports.get(port)?.connections;
    const nobody = { onEvents() {} };
    const isWatched = connections !== undefined &&
      this.poller.add(clientFd, READ_EVENTS, nobody) &&
      this.poller.add(endpointFd, READ_EVENTS, nobody);
    if (isWatched) {
      // What had happened before is told again, to a new watcher.
      const common = { events: 0, isWriteWatched: false };
      const client = { fd: clientFd, ...common };
      const endpoint = { fd: endpointFd, ...common };
      const pair = { client, endpoint, first: undefined, sentBytes };
      return connections.add(pair, ended);
    }
    this.poller.close(clientFd);
    this.poller.close(endpointFd);
    ended();
  }

  /** From another thread, to thread 0. */
  ended(id: number): void {
    this.#acceptor!.endedElsewhere(id);
  }

  #waitMs(): number {
    if (this.#again.length > 0 || this.#udp?.hasMore) return 0;
    const timeoutMs = this.timers.isEmpty
      ? -1
      : this.timers.untilNext(performance.now());
    if (this.#toAcceptor?.isWaiting !== true) return timeoutMs;
    return timeoutMs === -1 ? FLUSH_MS : Math.min(FLUSH_MS, timeoutMs);
  }

  #goOn(): void {
    if (this.#again.length === 0) return;
    const halves = this.#again;
    this.#again = [];
    for (const half of halves) half.move();
  }

  #apply(command: Command): void {
    switch (command.type) {
      case "table":
        return this.#counters.addTable(command.memory);
      case "port": {
        const line = command.lines[this.#options.start.index]!;
        const traffic = this.#counters.line(line);
        const connections = new Connections(this, traffic);
        this.#ports.set(command.port, { line, connections });
        return;
      }
      case "age limit":
        return this.#ports.get(command.port)?.connections
          .limitAge(command.limitMs);
      case "cut":
        this.#acceptor?.apply(command);
        return this.#ports.get(command.port)?.connections.cut();
      case "forget":
        this.#ports.delete(command.port);
        return;
      case "close":
        this.#isClosing = true;
        return;
      default:
        this.#acceptor?.apply(command);
        this.#udp?.apply(command);
    }
  }

  /** A bug of ours, in one event: the others shall not suffer. */
  #failed(error: unknown): void {
    const event = {
      port: undefined,
      kind: "failed",
      message: "Cannot handle an event; its connection may hang",
      properties: { error: error instanceof Error ? error.stack : error },
    };
    this.#events.add(event, this.now);
  }

  #close(): void {
    this.#acceptor?.close();
    this.#udp?.close();
    // Thread 0 has ended before the others do: nothing more will come.
    while (this.#inbox?.read());
    for (const { connections } of this.#ports.values()) connections.cut();
    this.pipes[Symbol.dispose]();
    this.poller[Symbol.dispose]();
  }
}
