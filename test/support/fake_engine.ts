/**
 * An engine without sockets: remembers what it was told, and refuses the
 * addresses that a test takes away from it.
 *
 * @module
 */
import type {
  Engine,
  Forwarder,
  ForwardingPolicy,
  ListenAddress,
  Listener,
  ListenOptions,
} from "../../proxy/engine/engine.ts";
import { formatHostPort } from "../../proxy/ip.ts";

export class FakeEngine implements Engine {
  readonly name = "portable";
  readonly forwarders: FakeForwarder[] = [];
  /** `ip:port` → what `listen` throws there. */
  readonly refused = new Map<string, Error>();
  readonly open = new Map<string, FakeForwarder>();
  /** Names of ServicePorts that it fails at. */
  readonly broken = new Set<string>();
  /** How each open listener was opened. */
  readonly options = new Map<string, ListenOptions>();
  /** What happened to listeners, in order: `open 10.96.0.1:80`. */
  readonly events: string[] = [];

  clusterSources: readonly string[] = [];

  setClusterSources(cidrs: readonly string[]): void {
    this.clusterSources = cidrs;
  }

  forwarder(policy: ForwardingPolicy): FakeForwarder {
    this.mustServe(policy);
    const forwarder = new FakeForwarder(this, policy);
    this.forwarders.push(forwarder);
    return forwarder;
  }

  mustServe({ name }: ForwardingPolicy): void {
    if (this.broken.has(name)) throw new Error("a test says so");
  }

  /** Open listeners, sorted. */
  get listening(): string[] {
    return [...this.open.keys()].sort();
  }

  /** The `ip:port` of the endpoints that a listener forwards to. */
  endpointsAt(address: string): string[] | undefined {
    return this.open.get(address)?.policy.endpoints.internal.map((
      { ip, port },
    ) => formatHostPort(ip, port));
  }
}

export class FakeForwarder implements Forwarder {
  readonly #engine: FakeEngine;
  policy: ForwardingPolicy;
  /** How often it was told something. */
  updates = 0;
  /** Resolved by a test: its last connection has ended. */
  readonly drained = Promise.withResolvers<void>();
  isClosed = false;

  constructor(engine: FakeEngine, policy: ForwardingPolicy) {
    this.#engine = engine;
    this.policy = policy;
  }

  update(policy: ForwardingPolicy): void {
    this.#engine.mustServe(policy);
    this.policy = policy;
    this.updates++;
  }

  // deno-lint-ignore require-await -- it throws, as an engine's rejects
  async listen(
    address: ListenAddress,
    options: ListenOptions,
  ): Promise<Listener> {
    const { open, refused, events } = this.#engine;
    const udp = this.policy.protocol === "UDP" ? "/UDP" : "";
    const key = formatHostPort(address.ip, address.port) + udp;
    const error = refused.get(key) ??
      (open.has(key) ? new Deno.errors.AddrInUse("in use") : undefined);
    if (error !== undefined) throw error;
    open.set(key, this);
    this.#engine.options.set(key, options);
    events.push(`open ${key}`);
    return {
      address,
      close: () => {
        open.delete(key);
        this.#engine.options.delete(key);
        events.push(`close ${key}`);
      },
    };
  }

  stats() {
    return {
      connectionsOpen: 0,
      connectionsTotal: 0,
      connectionsFailed: 0,
      connectionsRefused: 0,
      flowsEvicted: 0,
      datagramsDropped: 0,
      affinityEntries: 0,
      dialFailures: 0,
      bytesToEndpoints: 0,
      bytesToClients: 0,
      endpoints: new Map(),
    };
  }

  async close(signal: AbortSignal): Promise<void> {
    this.isClosed = true;
    const cut = new Promise<void>((resolve) => {
      if (signal.aborted) resolve();
      signal.addEventListener("abort", () => resolve(), { once: true });
    });
    await Promise.race([this.drained.promise, cut]);
  }
}
