/**
 * Taking over, and being taken over from, wired: which sockets there are to hand
 * over, where the lock comes from, and in which order what is served changes
 * hands. `../handover/README.md` draws it.
 *
 * @module
 */
import { systemClock } from "../../watch/mod.ts";
import { ListeningSockets } from "../engine/listening_sockets.ts";
import type { NetworkNamespaces } from "../engine/network_namespaces.ts";
import { type Libc, NoLibcError, openLibc } from "../engine/splice/libc.ts";
import { Giver } from "../handover/giver.ts";
import { Taker } from "../handover/taker.ts";
import {
  type SteeringLock,
  steeringLockHolder,
  type TakeLock,
} from "../rules/mod.ts";
import type { RunningProxy } from "./running_proxy.ts";
import { VERSION } from "./version.ts";

/** How long a process that is to stop waits for one that wants to take over. */
const ANNOUNCED_MS = 8_000;

/**
 * For the system to give back what was closed here, before the other process
 * binds it: sockets that were not handed over.
 */
const CLOSING_MS = 20;

/** How long nobody may steer before the one that took over is held to be gone. */
const SUCCESSOR_GONE_MS = 5_000;
const LOOK_MS = 1_000;

/** Sockets that can be handed over; none where there is no FFI. */
export class HandedSockets implements Disposable {
  readonly sockets: ListeningSockets | undefined;
  readonly #libc: Libc | undefined;

  constructor(namespaces: NetworkNamespaces) {
    try {
      this.#libc = openLibc();
      this.sockets = new ListeningSockets(this.#libc, namespaces);
    } catch (error) {
      if (!(error instanceof NoLibcError)) throw error;
    }
  }

  [Symbol.dispose](): void {
    this.#libc?.close();
  }
}

export interface HandOverOptions {
  /** `--take-over`. */
  readonly takesOver: boolean;
  readonly sockets: ListeningSockets | undefined;
  readonly namespaces: NetworkNamespaces;
}

/** Both ends of it: a process takes over at its start, and gives at its end. */
export class HandOver implements Disposable {
  readonly #options: HandOverOptions;
  readonly #taker: Taker | undefined;
  readonly #mayServe = Promise.withResolvers<void>();
  #isTaking = false;
  #giver: Giver | undefined;
  readonly #given = Promise.withResolvers<string>();
  #lock: SteeringLock | undefined;

  private constructor(options: HandOverOptions) {
    this.#options = options;
    this.#taker = options.takesOver
      ? new Taker({ version: VERSION, ...options })
      : undefined;
  }

  /** Announces itself to the process that steers, if it is to take over. */
  static async begin(options: HandOverOptions): Promise<HandOver> {
    const handOver = new HandOver(options);
    handOver.#isTaking = await handOver.#taker?.announce() ?? false;
    return handOver;
  }

  /** When admin ports may be listened on; `undefined`: at once. */
  get mayServe(): Promise<void> | undefined {
    return this.#isTaking ? this.#mayServe.promise : undefined;
  }

  /** Where the lock comes from, if not from nobody. */
  takeLock(signal: AbortSignal): { takeLock?: TakeLock } {
    const taker = this.#taker;
    if (taker === undefined) return {};
    return { takeLock: (purpose) => taker.takeLock(purpose, signal) };
  }

  /** The lock is ours; who asks there may take over from here on. */
  hold(lock: SteeringLock | undefined, proxy: RunningProxy): void {
    this.#lock = lock;
    const { sockets, namespaces } = this.#options;
    const giver = this.#giver = new Giver({
      version: VERSION,
      sockets,
      namespaces,
      async pause() {
        await proxy.ready;
        await proxy.pause();
      },
      resume: proxy.resume,
    });
    giver.given.then(this.#given.resolve);
    lock?.serve?.((connection) => giver.talk(connection));
  }

  /**
   * After the first sync: everything is served here, and the other process
   * leaves.
   *
   * @param listening resolves when admin ports are listened on, which they are
   *   before the other one leaves if its sockets are here
   * @throws {SteeringError} if the other process goes on
   */
  async finish(
    proxy: RunningProxy,
    listening: () => Promise<unknown>,
  ): Promise<void> {
    const { sockets } = this.#options;
    if (sockets?.hasInherited) {
      this.#mayServe.resolve();
      await listening();
    }
    await this.#taker?.finish();
    sockets?.dropInherited();
    this.#mayServe.resolve();
    // What could not be handed over can be had now.
    if (this.#isTaking) proxy.syncSoon();
  }

  /** Never resolves; rejects if the other process goes on instead of us. */
  get lost(): Promise<never> {
    return this.#taker?.lost ?? new Promise<never>(() => {});
  }

  /** Resolves, with its version, when another process serves everything. */
  get given(): Promise<string> {
    return this.#given.promise;
  }

  /** Told to stop: whether somebody who has announced itself took over first. */
  async stopping(): Promise<boolean> {
    return await this.#giver?.stopping(ANNOUNCED_MS) ?? false;
  }

  /** Nothing is listened on here any more: the other one has all of it. */
  async leave(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, CLOSING_MS));
    this.#lock?.[Symbol.dispose]();
    await this.#giver?.left();
  }

  /**
   * Resolves when nobody has steered for a while, so that whoever took over has
   * not merely been started again.
   */
  async untilNobodySteers(signal: AbortSignal): Promise<void> {
    let freeSince: number | undefined;
    while (!signal.aborted) {
      const isFree = await steeringLockHolder() === undefined;
      freeSince = isFree ? freeSince ?? performance.now() : undefined;
      const freeMs = performance.now() - (freeSince ?? Infinity);
      if (freeMs >= SUCCESSOR_GONE_MS) return;
      await systemClock.delay(LOOK_MS, signal).catch(() => {});
    }
  }

  /** Gives the lock back. */
  [Symbol.dispose](): void {
    this.#lock?.[Symbol.dispose]();
    this.#taker?.[Symbol.dispose]();
  }
}
