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
import {
  type DescriptorChannel,
  DescriptorListener,
} from "../engine/descriptor_channel.ts";
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
import { LineConnection } from "./line_connection.ts";
import {
  type GiverMessage,
  parseMessage,
  PROTOCOL,
  type TakerMessage,
} from "./messages.ts";

const logger = getLogger("handover");

/** For each answer: beyond it, the other process hangs. */
const ANSWER_MS = 10_000;

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
}

/** One conversation. */
interface Talk {
  readonly connection: LineConnection;
  readonly holder: LockHolder;
  channel: DescriptorChannel | undefined;
  /**
   * What it says next, as soon as it has let go of the machine: that it goes on
   * after all, or that it leaves.
   */
  next: Promise<GiverMessage | undefined> | undefined;
}

export class Taker implements Disposable {
  readonly #options: TakerOptions;
  #talk: Talk | undefined;
  #lock: SteeringLock | undefined;
  #serve: ((connection: Deno.Conn) => Promise<void>) | undefined;
  readonly #lost = Promise.withResolvers<never>();
  /** Holders that do not hand over: not asked again. */
  readonly #refused = new Set<string>();

  constructor(options: TakerOptions) {
    this.#options = options;
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
    await say(talk, { type: "done" });
    const answer = await within(ANSWER_MS, talk.next);
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

  /** A conversation with who holds the lock; `undefined` if nobody does. */
  async #begin(): Promise<Talk | undefined> {
    const { version, sockets, lockName } = this.#options;
    const found = await connectToHolder(lockName);
    if (found?.connection === undefined) return undefined;
    const { holder } = found;
    const connection = new LineConnection(found.connection);
    if (this.#refused.has(holder.heldBy) || holder.purpose !== "steer") {
      connection[Symbol.dispose]();
      return undefined;
    }
    const talk: Talk = {
      connection,
      holder,
      channel: undefined,
      next: undefined,
    };
    using listener = sockets && new DescriptorListener();
    const channel = listener === undefined ? {} : { channel: listener.name };
    await say(talk, { type: "hello", protocol: PROTOCOL, version, ...channel });
    try {
      for (;;) {
        const message = await hear(talk);
        if (message?.type === "prove" && listener !== undefined) {
          talk.channel = listener.accept();
          const { data } = talk.channel.receive();
          const proof = new TextDecoder().decode(data);
          await say(talk, { type: "proof", proof });
        } else if (message?.type === "ready") return talk;
        else if (message?.type === "later") {
          talk.channel?.[Symbol.dispose]();
          talk.channel = undefined;
          this.#sayWhyNot(
            talk,
            `not before it is told to stop: ${message.reason}`,
          );
          return talk;
        } else {
          const reason = message?.type === "no"
            ? message.reason
            : "it does not hand over";
          throw new Error(reason);
        }
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#refused.add(holder.heldBy);
      this.#sayWhyNot(talk, error.message);
      close(talk);
      return undefined;
    }
  }

  #sayWhyNot({ holder }: Talk, reason: string): void {
    logger.warn("The other kube-portal does not hand over now", {
      held_by: holder.heldBy,
      reason,
    });
  }

  /** True: the other process has let go, and its sockets are here. */
  async #take(talk: Talk): Promise<boolean> {
    const { sockets, namespaces } = this.#options;
    await say(talk, { type: "now" });
    // Who gives only when it is told to stop is waited for, however long.
    let timeoutMs = talk.channel === undefined ? Infinity : ANSWER_MS;
    try {
      for (;;) {
        const message = await hear(talk, timeoutMs);
        timeoutMs = ANSWER_MS;
        if (message === undefined) return false;
        switch (message.type) {
          case "sockets": {
            const { descriptors } = talk.channel!.receive();
            const given = message.sockets.map((label, index) => ({
              ...label,
              fd: descriptors[index]!,
            }));
            sockets!.inherit(given);
            await say(talk, { type: "got" });
            break;
          }
          case "namespace": {
            const { descriptors: [fd = -1] } = talk.channel!.receive();
            namespaces.adopt(message.path, fd);
            namespaces.close(fd);
            await say(talk, { type: "got" });
            break;
          }
          case "all":
            sockets?.setShared(true);
            talk.next = this.#awaitNext(talk);
            return true;
          case "no":
            this.#refused.add(talk.holder.heldBy);
            this.#sayWhyNot(talk, message.reason);
            return false;
          default:
            throw new Error(`it says "${message.type}" out of turn`);
        }
      }
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      this.#refused.add(talk.holder.heldBy);
      this.#sayWhyNot(talk, error.message);
      sockets?.dropInherited();
      return false;
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
    const message = await hear(talk, Infinity).catch(() => undefined);
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
    if (this.#talk !== undefined) close(this.#talk);
    this.#talk = undefined;
  }
}

function close({ connection, channel }: Talk): void {
  channel?.[Symbol.dispose]();
  connection[Symbol.dispose]();
}

async function say(
  { connection }: Talk,
  message: TakerMessage,
): Promise<void> {
  await connection.write(JSON.stringify(message));
}

/**
 * `undefined`: the other end is gone.
 *
 * @throws {SilenceError} if it says nothing in time
 */
async function hear(
  { connection }: Talk,
  timeoutMs: number = ANSWER_MS,
): Promise<GiverMessage | undefined> {
  const line = await connection.read(
    timeoutMs === Infinity ? undefined : timeoutMs,
  );
  if (line === undefined) return undefined;
  const message = parseMessage(line);
  if (message === undefined) throw new Error("it says what is no message");
  return message as GiverMessage;
}

async function within<T>(ms: number, promise: Promise<T>): Promise<T | "late"> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<"late">((resolve) => {
    timer = setTimeout(() => resolve("late"), ms);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
