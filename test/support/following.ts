/**
 * One resource of a RawServer, followed by the real reflector into the real
 * informer, on a clock of the test's. Waits of the reflector are over as soon
 * as they begin, and noted; all other time the test moves itself.
 *
 * @module
 */
import type { ApiClient, ApiRequest } from "../../watch/api.ts";
import { Informer } from "../../watch/informer.ts";
import { reflect } from "../../watch/reflector.ts";
import type { Unwatchable } from "../../watch/reflector_state.ts";
import { type Resource, SERVICES } from "../../watch/resource.ts";
import { ResourceClient } from "../../watch/resource_client.ts";
import { ServerHistory } from "../../watch/server_history.ts";
import type {
  Change,
  ClusterObject,
  Service,
  SourceEvent,
} from "../../watch/types.ts";
import { FakeClock, settle } from "./fake_clock.ts";
import { FetchClient } from "./fetch_client.ts";
import { type RawHandler, RawServer } from "./raw_server.ts";

export interface FollowingOptions<T extends ClusterObject> {
  readonly resource?: Resource<T>;
  readonly mayGiveUp?: boolean;
  /** Shared with another one that follows the same server. */
  readonly history?: ServerHistory;
}

/**
 * A client whose answers arrive in no time of the test's clock: what is not a
 * stream is read to its end before it is handed on.
 */
class PromptClient implements ApiClient {
  readonly server: string;
  readonly #client: FetchClient;
  readonly #underWay = new Set<Promise<unknown>>();

  constructor(server: string) {
    this.server = server;
    this.#client = new FetchClient(server);
  }

  request(path: string, options: ApiRequest = {}): Promise<Response> {
    const answer = this.#request(path, options);
    this.#underWay.add(answer);
    const done = () => void this.#underWay.delete(answer);
    answer.then(done, done);
    return answer;
  }

  async #request(path: string, options: ApiRequest): Promise<Response> {
    const response = await this.#client.request(path, options);
    const query = new URLSearchParams(options.query);
    return query.has("watch") && !isProbe(query)
      ? response
      : new Response(await response.arrayBuffer());
  }

  /** Resolves when no answer is under way, or at least not soon. */
  async untilAnswered(): Promise<void> {
    let isLate = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, 200);
    }).then(() => void (isLate = true));
    // An answer may lead to the next question at once.
    while (this.#underWay.size > 0 && !isLate) {
      await Promise.race([late, Promise.allSettled([...this.#underWay])]);
      await settle();
    }
    clearTimeout(timer);
  }

  [Symbol.dispose](): void {
    this.#client[Symbol.dispose]();
  }
}

/** A test that hangs is a test that failed. */
const PATIENCE_MS = 20_000;

export class Following<T extends ClusterObject = Service>
  implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly server: RawServer;
  readonly informer: Informer<T>;
  readonly events: SourceEvent<T>[] = [];
  readonly batches: (readonly Change<T>[])[] = [];
  /** Milliseconds of each wait, as the reflector chose them (random is 1/2). */
  readonly waits: number[] = [];
  /** What the reflector returned. */
  result: Unwatchable | undefined;
  readonly #client: PromptClient;
  readonly #stop = new AbortController();
  #advancing = Promise.resolve();
  readonly #running: Promise<void>;
  #happened = Promise.withResolvers<void>();

  constructor(handler: RawHandler, options: FollowingOptions<T> = {}) {
    this.server = new RawServer((request, reply) => {
      this.#notify();
      return handler(request, reply);
    });
    this.#client = new PromptClient(this.server.url);
    const resource = options.resource ??
      (SERVICES as unknown as Resource<T>);
    const client = new ResourceClient(this.#client, resource, {
      clock: this.clock,
    });
    const events = reflect(client, {
      signal: this.#stop.signal,
      clock: this.clock,
      random: () => 0.5,
      mayGiveUp: options.mayGiveUp ?? false,
      history: options.history ?? new ServerHistory(),
    });
    this.informer = new Informer(this.#noting(events));
    this.#running = this.informer.run((changes) => {
      this.batches.push(changes);
      this.#notify();
    });
  }

  async *#noting(
    events: AsyncGenerator<SourceEvent<T>, Unwatchable | undefined>,
  ): AsyncGenerator<SourceEvent<T>, void> {
    while (true) {
      const { done, value } = await events.next();
      if (done) {
        this.result = value;
        return this.#notify();
      }
      this.events.push(value);
      const waits = value.type === "state" && value.state.phase === "waiting";
      if (waits) this.#skipWait();
      yield value;
      this.#notify();
    }
  }

  async #skipWait(): Promise<void> {
    await this.clock.untilSleeping();
    const ms = this.clock.nextInMs ?? 0;
    this.waits.push(ms);
    this.#advancing = this.clock.advance(ms);
    await this.#advancing;
  }

  #notify(): void {
    this.#happened.resolve();
    this.#happened = Promise.withResolvers<void>();
  }

  /** Resolves once `condition` holds; looked at whenever anything happened. */
  async until(
    condition: () => boolean,
    what = String(condition),
  ): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(
        () => reject(new Error(`Waited in vain for ${what}`)),
        PATIENCE_MS,
      );
    });
    try {
      while (!condition()) await Promise.race([this.#happened.promise, late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Moves the clock in steps of a second until `condition` holds. */
  async advanceUntil(
    condition: () => boolean,
    { mostMs, stepMs = 1000 }: { mostMs: number; stepMs?: number },
  ): Promise<number> {
    const began = this.clock.now();
    while (!condition()) {
      const ms = this.clock.now() - began;
      if (ms >= mostMs) throw new Error(`${condition} not within ${mostMs} ms`);
      await this.clock.advance(stepMs);
      // The network is real: give an answer that is due time to arrive, and
      // an event of an open stream too.
      await this.#client.untilAnswered();
      await new Promise((resolve) => setTimeout(resolve, 2));
    }
    return this.clock.now() - began;
  }

  /** Names and ports of what is served, as `web:80`. */
  get served(): string[] {
    return [...this.informer.store.values()].map((object) =>
      object.kind === "Service"
        ? `${object.metadata.name}:${object.spec.ports[0]?.port}`
        : object.metadata.name
    ).sort();
  }

  /** Questions of a probe, of either kind. */
  get probes(): number {
    return this.server.requests.filter((r) => isProbe(r.query)).length;
  }

  get lists(): number {
    return this.server.requests.filter((r) => !r.isWatch && !isProbe(r.query))
      .length;
  }

  /** Versions that were watched from, in order; glimpses of a probe left out. */
  get watches(): string[] {
    return this.server.requests
      .filter((r) => r.isWatch && !isProbe(r.query))
      .map((r) => r.query.get("resourceVersion") ?? "");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.#advancing;
    this.#client[Symbol.dispose]();
    await this.server[Symbol.asyncDispose]();
  }
}

/** The two questions of watch/probe.ts. */
export function isProbe(query: URLSearchParams): boolean {
  return query.get("limit") === "1" || query.get("timeoutSeconds") === "1";
}
