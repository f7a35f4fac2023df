/**
 * The part of a data thread that forwards UDP. In: commands, and the rounds of
 * the thread's loop. Out: ServicePorts, and reports when something is closed.
 * One thread has it, so that rotation, affinity and "the oldest flow" need no
 * agreement among threads.
 *
 * @module
 */
import { CidrSet } from "../admission.ts";
import { OwnAddresses } from "../own_addresses.ts";
import { FlowLimits } from "../udp_flows.ts";
import type { Libc } from "./libc.ts";
import { descriptorsForConnections } from "../descriptor_share.ts";
import type {
  Command,
  CountedEvent,
  EndedFlow,
  Report,
  UdpStart,
} from "./messages.ts";
import type { Poller } from "./poller.ts";
import type { SharedCounters } from "./shared_counters.ts";
import { descriptorLimit } from "./socket.ts";
import type { Timers } from "./timers.ts";
import { DatagramBatch } from "./udp_batch.ts";
import type { UdpHost } from "./udp_host.ts";
import { KeptDatagrams } from "./udp_kept.ts";
import { UdpServicePort } from "./udp_service_port.ts";

export interface UdpThreadOptions {
  readonly start: UdpStart;
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly counters: SharedCounters;
  /** Milliseconds, the loop's. */
  readonly now: () => number;
  readonly log: (event: Omit<CountedEvent, "count">) => void;
  readonly post: (report: Report) => void;
}

interface OpenListener {
  readonly port: UdpServicePort;
  readonly disown: () => void;
}

export class UdpThread implements UdpHost {
  readonly libc: Libc;
  readonly poller: Poller;
  readonly timers: Timers;
  readonly counters: SharedCounters;
  readonly now: () => number;
  readonly log: (event: Omit<CountedEvent, "count">) => void;
  readonly limits: FlowLimits;
  readonly timeoutMs: number;
  readonly reservedFrom: number;
  readonly ownAddresses = new OwnAddresses();
  clusterSources = new CidrSet([]);
  tellsFlows = false;
  readonly #post: (report: Report) => void;
  readonly #ports = new Map<number, UdpServicePort>();
  readonly #listeners = new Map<number, OpenListener>();
  #batch: DatagramBatch | undefined;
  #kept: KeptDatagrams | undefined;
  #afterRound: (() => void)[] = [];

  constructor(options: UdpThreadOptions) {
    const { start, libc } = options;
    this.libc = libc;
    this.poller = options.poller;
    this.timers = options.timers;
    this.counters = options.counters;
    this.now = options.now;
    this.log = options.log;
    this.#post = options.post;
    this.timeoutMs = start.timeoutMs;
    this.limits = new FlowLimits(start.limits);
    this.reservedFrom = descriptorsForConnections(descriptorLimit(libc));
  }

  /** Made when it is first needed: 4 MiB that many a cluster never touches. */
  get batch(): DatagramBatch {
    return this.#batch ??= new DatagramBatch(this.libc);
  }

  get kept(): KeptDatagrams {
    return this.#kept ??= new KeptDatagrams();
  }

  apply(command: Command): void {
    switch (command.type) {
      case "udp policy": {
        const { port, policy, portLines } = command;
        let servicePort = this.#ports.get(port);
        if (servicePort === undefined) {
          const options = { host: this, policy, lines: portLines };
          servicePort = new UdpServicePort(port, options);
          this.#ports.set(port, servicePort);
        }
        return servicePort.update(policy, command);
      }
      case "udp listen": {
        const { listener, address, options } = command;
        const port = this.#ports.get(command.port)!;
        const { serviceAddress } = options;
        const disown = this.ownAddresses.add(address, serviceAddress);
        this.#listeners.set(listener, { port, disown });
        return port.listen(listener, command);
      }
      case "udp quiet": {
        const { listener } = command;
        return this.#listeners.get(listener)?.port.quiet(listener);
      }
      case "udp unlisten": {
        const { listener } = command;
        const open = this.#listeners.get(listener);
        this.#listeners.delete(listener);
        open?.disown();
        open?.port.unlisten(listener);
        return this.afterRound(() =>
          this.#post({ type: "udp listener closed", listener })
        );
      }
      case "udp close": {
        const { port } = command;
        this.#ports.get(port)?.close();
        this.#ports.delete(port);
        return this.afterRound(() => this.#post({ type: "drained", port }));
      }
      case "cluster sources":
        this.clusterSources = new CidrSet(command.cidrs);
        return;
      case "tell connections":
        this.tellsFlows = command.isTold;
    }
  }

  afterRound(run: () => void): void {
    this.#afterRound.push(run);
  }

  /** What was closed in this round is closed. */
  finishRound(): void {
    if (this.#afterRound.length === 0) return;
    const all = this.#afterRound;
    this.#afterRound = [];
    for (const run of all) run();
  }

  /** Whether `finishRound` has more to do: the thread is not to wait. */
  get hasMore(): boolean {
    return this.#afterRound.length > 0;
  }

  flowEnded(ended: EndedFlow): void {
    this.#post({ type: "flow ended", ended });
  }

  endpointGone(port: number, key: string, generation: number): void {
    this.#post({ type: "endpoint gone", port, key, generation });
  }

  /** Everything; the poller closes it. */
  close(): void {
    for (const port of this.#ports.values()) port.close();
    this.#afterRound = [];
  }
}
