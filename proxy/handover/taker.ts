/**
 * The process that takes over: announces itself to the one that steers, takes
 * its listening sockets when it knows the cluster itself, and says when it
 * serves everything. In: the lock, and who holds it. Out: the lock.
 *
 * Whatever goes wrong, the machine is steered by one of the two: before the
 * other one has let go, this one waits until it ends; after, this one goes on.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ListeningSockets } from "../engine/listening_sockets.ts";
import type { NetworkNamespaces } from "../engine/network_namespaces.ts";
import {
  connectToHolder,
  isHeld,
  type LockHolder,
  type LockPurpose,
  type SteeringLock,
  steeringLockHolder,
  takeSteeringLock,
} from "../rules/lock.ts";
import { SteeringError } from "../steering.ts";
import type { GiverMessage } from "./messages.ts";
import { Talk } from "./talk.ts";
import { within } from "./within.ts";

const logger = getLogger("handover");

/** Milliseconds. */
export interface TakerTiming {
  /** For each answer: beyond it, the other process hangs. */
  readonly answerMs: number;
  /**
   * Until one that did not hand over is asked again: what was in its way may
   * have passed.
   */
  readonly askAgainMs: number;
}

export const TAKER_TIMING: TakerTiming = {
  answerMs: 10_000,
  askAgainMs: 5_000,
};

/** Between two looks whether the other process has ended. */
const LOOK_MS = 100;

/** Between two lines that say what is waited for. */
const SAY_EVERY_MS = 30_000;

/** How long the lock may stay taken that the other process has given back. */
const LOCK_MS = 2_000;

export interface TakerOptions {
  readonly version: string;
  /** Where sockets go; none without FFI. */
  readonly sockets: ListeningSockets | undefined;
  readonly namespaces: Pick<NetworkNamespaces, "adopt" | "close">;
  /** Of the lock; its own if not given. */
  readonly lockName?: string;
  /** Its own if not given. */
  readonly timing?: TakerTiming;
}

export class Taker implements Disposable {
  readonly #options: TakerOptions;
  readonly #timing: TakerTiming;
  #talk: Talk | undefined;
  #lock: SteeringLock | undefined;
  #serve: ((connection: Deno.Conn) => Promise<void>) | undefined;
  readonly #lost = Promise.withResolvers<never>();
  /** Who did not hand over, why, and when it is asked again. */
  #refused: { heldBy: string; reason: string; until: number } | undefined;

  constructor(options: TakerOptions) {
    this.#options = options;
    this.#timing = options.timing ?? TAKER_TIMING;
    this.#lost.promise.catch(() => {});
  }

  /**
   * Never resolves.
   *
   * @throws {SteeringError} if the other process goes on, since this one took
   *   too long
   */
  get lost(): Promise<never> {
    return this.#lost.promise;
  }

  /**
   * Tells who steers now, if anybody does, that somebody is coming.
   *
   * @returns whether somebody does: all that is served is that one's, until
   *   `finish`
   */
  async announce(): Promise<boolean> {
    this.#talk ??= await this.#begin();
    const { lockName } = this.#options;
    const holder = this.#talk?.holder ?? await steeringLockHolder(lockName);
    if (holder === undefined) return false;
    logger.info("Taking over from another kube-portal as soon as possible", {
      from: holder.heldBy,
    });
    return true;
  }

  /**
   * Waits until the machine is this process's to steer.
   *
   * @returns the lock; until `finish`, the other process still has it
   */
  async takeLock(
    purpose: LockPurpose,
    signal: AbortSignal,
  ): Promise<SteeringLock> {
    let saidAt = -Infinity;
    for (;;) {
      signal.throwIfAborted();
      this.#talk ??= await this.#begin();
      if (this.#talk !== undefined && await this.#take(this.#talk)) {
        return this.#pending();
      }
      this.#hangUp();
      const lock = await takeSteeringLock(purpose, this.#options.lockName);
      if (!isHeld(lock)) return lock;
      if (performance.now() - saidAt >= SAY_EVERY_MS) {
        saidAt = performance.now();
        logger.warn("Waiting for another kube-portal to end; stop it", {
          held_by: lock.heldBy,
        });
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    }
  }

  /**
   * This process serves everything: the other one leaves, and gives back the
   * lock. Nothing to do where nobody was to be taken over from.
   *
   * @throws {SteeringError} see `lost`
   */
  async finish(): Promise<void> {
    const talk = this.#talk;
    if (talk?.next === undefined) return;
    await talk.say({ type: "done" });
    const answer = await within(this.#timing.answerMs, talk.next);
    if (answer === "late") {
      logger.warn("The other kube-portal does not say that it leaves", {
        held_by: talk.holder.heldBy,
      });
    } else if (answer?.type === "given up") await this.lost;
    this.#hangUp();
    await this.#takeRealLock();
    this.#options.sockets?.setShared(false);
    logger.info("Took over", { from: talk.holder.heldBy });
  }

  [Symbol.dispose](): void {
    this.#hangUp();
    this.#lock?.[Symbol.dispose]();
  }

  /**
   * A conversation with who holds the lock; `undefined` if nobody does, or not
   * one that hands over now.
   */
  async #begin(): Promise<Talk | undefined> {
    const { version, sockets, namespaces, lockName } = this.#options;
    const found = await connectToHolder(lockName);
    if (found?.connection === undefined) return undefined;
    const { holder, connection } = found;
    const isRefused = this.#refused?.heldBy === holder.heldBy &&
      performance.now() < this.#refused.until;
    if (isRefused || holder.purpose !== "steer") {
      connection.close();
      return undefined;
    }
    try {
      const talk = await Talk.begin(holder, connection, {
        version,
        takesDescriptors: sockets !== undefined,
        answerMs: this.#timing.answerMs,
        close: (descriptor) => namespaces.close(descriptor),
      });
      if (talk.later !== undefined) {
        this.#sayWhyNot(holder, `not before it is told to stop: ${talk.later}`);
      }
      return talk;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#sayWhyNot(holder, error.message);
      return undefined;
    }
  }

  /** Once for each reason; and it is not asked again for a while. */
  #sayWhyNot({ heldBy }: LockHolder, reason: string): void {
    const before = this.#refused;
    const until = performance.now() + this.#timing.askAgainMs;
    this.#refused = { heldBy, reason, until };
    if (before?.heldBy === heldBy && before.reason === reason) return;
    logger.warn("The other kube-portal does not hand over now", {
      held_by: heldBy,
      reason,
    });
  }

  /** True: the other process has let go, and its sockets are here. */
  async #take(talk: Talk): Promise<boolean> {
    const { sockets } = this.#options;
    try {
      const message = await this.#receive(talk);
      if (message === undefined) return false;
      if (message.type === "all") {
        sockets?.setShared(true);
        talk.next = this.#awaitNext(talk);
        return true;
      }
      if (message.type === "no" || message.type === "given up") {
        throw new Error(message.reason);
      }
      throw new Error(`it says "${message.type}" out of turn`);
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#sayWhyNot(talk.holder, error.message);
      sockets?.dropInherited();
      return false;
    }
  }

  /** Takes what is given; returns what is said when there is no more of it. */
  async #receive(talk: Talk): Promise<GiverMessage | undefined> {
    const { sockets, namespaces } = this.#options;
    await talk.say({ type: "now" });
    // Who gives only when it is told to stop is waited for, however long.
    let timeoutMs = talk.later === undefined ? undefined : Infinity;
    for (;;) {
      const message = await talk.hear(timeoutMs);
      timeoutMs = undefined;
      if (message?.type === "wait") continue;
      if (message?.type === "sockets") {
        sockets?.inherit(talk.receiveSockets(message.sockets));
      } else if (message?.type === "namespace") {
        const descriptor = talk.receiveDescriptor();
        try {
          namespaces.adopt(message.path, descriptor);
        } finally {
          namespaces.close(descriptor);
        }
      } else return message;
      await talk.say({ type: "got" });
    }
  }

  /** A lock that is to be had when the other process has left. */
  #pending(): SteeringLock {
    return {
      serve: (talk) => {
        this.#serve = talk;
        this.#lock?.serve?.(talk);
      },
      [Symbol.dispose]: () => this[Symbol.dispose](),
    };
  }

  async #takeRealLock(): Promise<void> {
    const deadline = performance.now() + LOCK_MS;
    for (;;) {
      const lock = await takeSteeringLock("steer", this.#options.lockName);
      if (!isHeld(lock)) {
        this.#lock = lock;
        if (this.#serve !== undefined) lock.serve?.(this.#serve);
        return;
      }
      if (performance.now() > deadline) {
        logger.error(
          "Cannot take the lock of the process that was taken over from; another kube-portal may interfere",
          { held_by: lock.heldBy },
        );
        return;
      }
      await new Promise((resolve) => setTimeout(resolve, LOOK_MS / 10));
    }
  }

  /** Never rejects: who has ended, or talks nonsense, steers no more. */
  async #awaitNext(talk: Talk): Promise<GiverMessage | undefined> {
    const message = await talk.hear(Infinity).catch(() => undefined);
    if (message?.type === "given up") {
      this.#lost.reject(
        new SteeringError(
          `Cannot take over: kube-portal (${talk.holder.heldBy}) goes on by itself: ${message.reason}`,
        ),
      );
    }
    return message;
  }

  #hangUp(): void {
    this.#talk?.[Symbol.dispose]();
    this.#talk = undefined;
  }
}
