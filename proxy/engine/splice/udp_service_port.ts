/**
 * A UDP ServicePort in its data thread. In: runs of datagrams of clients. Out:
 * the same at endpoints, and the answers, from the address that was asked. Read
 * it top down to follow a datagram: received, its flow found or made
 * (`udp_opening.ts`), sent, answered, or refused; at the end, how flows end.
 *
 * @module
 */
import { endpointKey } from "../../load_balancer.ts";
import type {
  ForwardingPolicy,
  ListenAddress,
  ListenOptions,
} from "../engine.ts";
import { type FlowExpiry, FlowTable } from "../udp_flows.ts";
import { EAGAIN, EINTR, errnoText } from "./errors.ts";
import { decodeSockaddr } from "./layouts.ts";
import { PORT_CELLS } from "./shared_counters.ts";
import { socketError } from "./socket.ts";
import { Timer } from "./timers.ts";
import { UdpAccount } from "./udp_account.ts";
import { EndpointChoice } from "./endpoint_choice.ts";
import type { FlowOwner, UdpClient, UdpFlow } from "./udp_flow.ts";
import type { UdpHost } from "./udp_host.ts";
import { UdpListener, type UdpReceiver } from "./udp_listener.ts";
import { type Datagrams, type Tried, UdpOpener } from "./udp_opening.ts";
import { type Run, runOfCopies, runOfSlots, sendRun } from "./udp_sending.ts";

/**
 * What an endpoint that never answers (of syslog, say) has to take without a
 * refusal to count as working again, in milliseconds since its flow began.
 */
const PROVEN_MS = 1_000;

const NONE: ReadonlySet<string> = new Set();
const DONE = Promise.resolve();

export class UdpServicePort implements UdpReceiver, FlowOwner {
  readonly #port: number;
  readonly #host: UdpHost;
  readonly #account: UdpAccount;
  readonly #choice: EndpointChoice;
  readonly #flows: FlowTable<UdpFlow>;
  readonly #expiry = new Timer(() => this.#expire?.());
  #expire: (() => void) | undefined;
  readonly #listeners = new Map<number, UdpListener>();
  readonly #opener: UdpOpener;
  #isClosed = false;

  /** @param options.lines the numbers of its two counter lines */
  constructor(
    port: number,
    options: {
      readonly host: UdpHost;
      readonly policy: ForwardingPolicy;
      readonly lines: readonly [number, number];
    },
  ) {
    const { host, policy, lines } = options;
    const { counters, timers, limits, timeoutMs, now, log } = host;
    this.#port = port;
    this.#host = host;
    this.#account = new UdpAccount(port, { counters, lines, log });
    this.#choice = new EndpointChoice(policy, {
      counters,
      timers,
      now,
      line: this.#account.line,
      log: (event) => log({ port, ...event }),
      gone: (key, generation) => host.endpointGone(port, key, generation),
    });
    this.#flows = new FlowTable({
      time: {
        now,
        later: (delayMs, run) => {
          this.#expire = run;
          timers.set(this.#expiry, { now: now(), delayMs: Math.ceil(delayMs) });
        },
      },
      timeoutMs,
      limits,
      expire: (flow, why) => this.#expired(flow, why),
    });
    this.#opener = new UdpOpener(policy, {
      host,
      account: this.#account,
      choice: this.#choice,
      flows: this.#flows,
      owner: this,
      deliver: (client, datagrams, tried) =>
        this.#deliver(client, datagrams, tried),
    });
  }

  /**
   * Flows to endpoints that no longer serve end at once, when none is left too
   * (facts 10.52, 10.55): their clients' next datagrams go elsewhere.
   */
  update(
    policy: ForwardingPolicy,
    options: {
      readonly generation: number;
      readonly lines: ReadonlyMap<string, number>;
    },
  ): void {
    this.#opener.policy = policy;
    this.#choice.update(policy, options);
    const serving = new Set(policy.endpoints.serving.map(endpointKey));
    for (const flow of this.#flows.values()) {
      if (!serving.has(flow.endpoint.key)) this.#end(flow, "endpoint left");
    }
  }

  /** Owns the socket. */
  listen(
    number: number,
    { fd, address, options }: {
      readonly fd: number;
      readonly address: ListenAddress;
      readonly options: ListenOptions;
    },
  ): void {
    const { libc, poller, timers, batch, now } = this.#host;
    const tools = { libc, poller, timers, batch, now, receiver: this };
    const listener = new UdpListener(fd, {
      ...tools,
      address,
      listen: options,
    });
    this.#listeners.set(number, listener);
  }

  /** Another process receives what comes there; answers go out still. */
  quiet(number: number): void {
    this.#listeners.get(number)?.quiet();
  }

  /** Its flows, which would have no socket to answer from, end with it. */
  unlisten(number: number): void {
    const listener = this.#listeners.get(number);
    if (listener === undefined) return;
    this.#listeners.delete(number);
    for (const flow of [...listener.flows.values()]) {
      this.#end(flow, "listener closed");
    }
    listener.close();
  }

  /** All of it, and nothing is counted any more. */
  close(): void {
    for (const number of [...this.#listeners.keys()]) this.unlisten(number);
    this.#host.timers.clear(this.#expiry);
    this.#choice.close();
    this.#isClosed = true;
  }

  received(
    range: { readonly from: number; readonly to: number },
    known: UdpFlow | undefined,
    client: () => UdpClient,
  ): void {
    if (known !== undefined) {
      this.#flows.use(known);
      if (this.#host.now() - known.openedAt > PROVEN_MS) this.#works(known);
    }
    const { batch } = this.#host;
    const view = (slot: number) => batch.slots[slot]!;
    const datagrams = () => {
      const { from, to } = range;
      return Array.from(
        { length: to - from },
        (_, index) => view(from + index).slice(0, batch.length(from + index)),
      );
    };
    const flow = known ??
      this.#opener.open(client(), { datagrams, tried: NONE, madeRoom: false });
    if (flow === undefined) return;
    this.#send(flow, runOfSlots(batch, range, flow.fd), view);
  }

  /** By the client's flow, or a new one. */
  #deliver(client: UdpClient, datagrams: Datagrams, cause: Tried): void {
    // It may have waited for the end of the round in which that happened.
    if (this.#isClosed || client.listener.isClosed) return;
    const known = client.listener.flows.get(client.key);
    // Other datagrams of this client chose that endpoint meanwhile.
    if (known !== undefined && cause.tried.has(known.endpoint.key)) {
      return this.#account.failed("refused");
    }
    const flow = known ??
      this.#opener.open(client, { datagrams: () => datagrams, ...cause });
    if (flow === undefined) return;
    const run = runOfCopies(this.#host.libc, datagrams, flow.fd);
    this.#send(flow, run, (at) => datagrams[at]!);
  }

  /** @param view memory that begins with the datagram */
  #send(
    flow: UdpFlow,
    run: Run,
    view: (at: number) => Uint8Array<ArrayBuffer>,
  ): void {
    const stopped = sendRun(this.#host.libc, run, {
      sent: (at, bytes) => {
        this.#account.line.add(PORT_CELLS.bytesToEndpoints, bytes);
        if (!flow.keeps(bytes)) return;
        flow.keep(this.#host.kept.put(view(at), bytes), bytes);
      },
      dropped: (count, properties) =>
        this.#account.dropped(count, "towards the endpoint", {
          endpoint: flow.endpoint.key,
          ...properties,
        }),
    });
    if (stopped === undefined) return;
    const { at: from, cause } = stopped;
    const rest = Array.from(
      { length: run.to - from },
      (_, index) => view(from + index).slice(0, run.length(from + index)),
    );
    this.#passOn(flow, rest, cause);
  }

  answered(flow: UdpFlow): void {
    const { batch, libc } = this.#host;
    const to = batch.receiveFromEndpoint(flow.fd);
    if (to === -1) {
      const errno = libc.errno();
      if (errno === EAGAIN || errno === EINTR) return;
      return this.#passOn(flow, [], errnoText(errno));
    }
    flow.keepNoMore();
    this.#works(flow);
    this.#flows.use(flow);
    const { listener: { fd }, sockaddr } = flow.client;
    const where = "towards the client";
    const stopped = sendRun(libc, {
      from: 0,
      to,
      send: (from) => batch.sendToClient(fd, sockaddr, { from, to }),
      length: (at) => batch.length(at),
    }, {
      sent: (_, bytes) =>
        this.#account.line.add(PORT_CELLS.bytesToClients, bytes),
      dropped: (count, properties) =>
        this.#account.dropped(count, where, properties),
    });
    if (stopped === undefined) return;
    const { at, cause: reason } = stopped;
    this.#account.dropped(to - at, where, { bytes: batch.length(at), reason });
  }

  refused(flow: UdpFlow): void {
    const errno = socketError(this.#host.libc, flow.fd);
    if (errno !== 0) this.#passOn(flow, [], errnoText(errno));
  }

  /** Its endpoint cannot be reached: what it has not answered is another's. */
  #passOn(flow: UdpFlow, rest: Datagrams, cause: string): void {
    const address = decodeSockaddr(flow.client.sockaddr);
    this.#opener.cannotSend(flow.endpoint, address, cause);
    this.#end(flow, "refused");
    const datagrams = [...flow.kept(this.#host.kept), ...rest];
    if (datagrams.length === 0) return;
    const tried = new Set(flow.tried).add(flow.endpoint.key);
    this.#deliver(flow.client, datagrams, { tried, madeRoom: false });
  }

  #works(flow: UdpFlow): void {
    if (flow.isProven) return;
    flow.isProven = true;
    this.#choice.works(flow.endpoint);
  }

  #expired(flow: UdpFlow, why: FlowExpiry): Promise<void> {
    if (why === "evicted") this.#account.evicted(this.#flows.size);
    this.#end(flow, why);
    return DONE;
  }

  #end(flow: UdpFlow, reason: string): void {
    if (flow.isEnded) return;
    const { client, endpoint } = flow;
    flow.isEnded = true;
    this.#flows.delete(flow);
    client.listener.flows.delete(client.key);
    this.#host.poller.close(flow.fd);
    this.#account.ended();
    this.#choice.closed(endpoint);
    if (!this.#host.tellsFlows) return;
    this.#host.flowEnded({
      port: this.#port,
      client: endpointKey(decodeSockaddr(client.sockaddr)),
      endpoint: endpoint.key,
      reason,
    });
  }

  cannotReceive(address: ListenAddress, cause: string): void {
    this.#account.cannotReceive(address, cause);
  }
}
