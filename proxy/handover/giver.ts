/**
 * The process that is replaced: tells who asks whether it hands over, and does.
 * In: connections to its lock, and the end it is told to come to. Out: its
 * listening sockets, at the other process; then word that it is done here.
 *
 * Until the other process says that it serves everything, nothing is lost here:
 * connections are accepted all the time, and should the other one end or fall
 * silent, steering goes on as if nothing had been.
 *
 * @module
 */
import { getLogger } from "@std/log";
import {
  DescriptorChannel,
  DESCRIPTORS_MAX,
} from "../engine/descriptor_channel.ts";
import type {
  LabelledSocket,
  ListeningSockets,
} from "../engine/listening_sockets.ts";
import type { NetworkNamespaces } from "../engine/network_namespaces.ts";
import { Conversations } from "./conversations.ts";
import { LineConnection, SilenceError } from "./line_connection.ts";
import {
  type GiverMessage,
  type Hello,
  parseHello,
  parseMessage,
  PROTOCOL,
  type TakerMessage,
} from "./messages.ts";
import { within } from "./within.ts";

const logger = getLogger("handover");

/** Milliseconds. */
export interface GiverTiming {
  /** For each answer that needs no work. */
  readonly answerMs: number;
  /** For what is being written here, until nothing is. */
  readonly pauseMs: number;
  /** Between two words that the other process has to wait. */
  readonly sayEveryMs: number;
  /** For the first sync of the other process. */
  readonly takeOverMs: number;
}

export const GIVER_TIMING: GiverTiming = {
  answerMs: 5_000,
  pauseMs: 60_000,
  sayEveryMs: 3_000,
  takeOverMs: 60_000,
};

export interface GiverOptions {
  readonly version: string;
  /** What can be handed over; none without FFI. */
  readonly sockets: ListeningSockets | undefined;
  readonly namespaces: Pick<NetworkNamespaces, "open" | "close">;
  /** Its own if not given. */
  readonly timing?: GiverTiming;
  /** Steers no more, until `resume`; resolves when nothing is being written. */
  pause(): Promise<void>;
  resume(): void;
}

export class Giver {
  readonly #options: GiverOptions;
  readonly #timing: GiverTiming;
  /** Whom a hand-over has begun with. */
  #taker: LineConnection | undefined;
  readonly #conversations = new Conversations();
  /** Told to stop: who waits takes over, whoever it is. */
  readonly #stop = Promise.withResolvers<void>();
  #isGiven = false;
  readonly #given = Promise.withResolvers<string>();

  constructor(options: GiverOptions) {
    this.#options = options;
    this.#timing = options.timing ?? GIVER_TIMING;
  }

  /**
   * Resolves, with its version, when another process serves everything. Then
   * listeners are to be closed, and the lock given back; and `left` called.
   */
  get given(): Promise<string> {
    return this.#given.promise;
  }

  /** Tells the other process that all is its own. */
  async left(): Promise<void> {
    const taker = this.#taker;
    if (taker === undefined) return;
    await say(taker, { type: "yours" });
    taker[Symbol.dispose]();
  }

  /**
   * Told to stop: who has announced itself takes over before.
   *
   * @returns true if somebody has; false if nobody did within the time
   */
  async stopping(timeoutMs: number): Promise<boolean> {
    this.#stop.resolve();
    if (this.#isGiven) return true;
    const ended = this.#conversations.ended();
    const given = this.#given.promise.then(() => true);
    return await within(timeoutMs, Promise.race([given, ended])) === true;
  }

  /** Owns the connection; never rejects. */
  async talk(connection: Deno.Conn): Promise<void> {
    const taker = new LineConnection(connection);
    await this.#conversations.hold(taker, async () => {
      let isGiven = false;
      try {
        isGiven = await this.#negotiate(taker);
      } catch (error) {
        if (!(error instanceof SilenceError)) {
          logger.warn("Cannot hand over; going on", { cause: error });
        }
      }
      if (!isGiven) taker[Symbol.dispose]();
      return isGiven;
    });
  }

  /** True: the other one serves everything. */
  async #negotiate(taker: LineConnection): Promise<boolean> {
    // Most only ask who holds the lock, and are gone.
    const line = await taker.read(this.#timing.answerMs);
    const hello = line === undefined ? undefined : parseHello(line);
    if (hello === undefined) return false;
    const refuse = async (reason: string) => {
      await say(taker, { type: "no", reason });
      return false;
    };
    const { version } = this.#options;
    if (hello.protocol !== PROTOCOL) {
      return await refuse(
        `version ${version} hands over by protocol ${PROTOCOL}, and not by ${hello.protocol}`,
      );
    }
    const verified = await this.#verify(taker, hello);
    const isVerified = typeof verified !== "string";
    using channel = isVerified ? verified : undefined;
    await say(
      taker,
      isVerified
        ? { type: "ready", version }
        : { type: "later", reason: verified },
    );
    // It announces itself early, and comes when it knows the cluster.
    if (!await heard(taker, "now")) return false;
    if (!isVerified) {
      const isStopping = this.#stop.promise.then(() => true);
      const isGone = taker.ended.then(() => false);
      if (!await Promise.race([isStopping, isGone])) return false;
    }
    if (this.#taker !== undefined) {
      return await refuse("another process is taking over already");
    }
    this.#taker = taker;
    // Whoever it is: it is given everything, and nobody takes its place.
    this.#conversations.proven(taker);
    const isGiven = await this.#give(taker, channel);
    this.#isGiven = isGiven;
    if (isGiven) this.#given.resolve(hello.version);
    else this.#taker = undefined;
    return isGiven;
  }

  /**
   * The channel, if the kernel says that the other process is root's or our
   * own user's, and it is the one that speaks here; else why not.
   */
  async #verify(
    taker: LineConnection,
    { channel: name }: Hello,
  ): Promise<DescriptorChannel | string> {
    if (this.#options.sockets === undefined) {
      return "it has no descriptors to give (--engine portable)";
    }
    if (name === undefined) return "the new one cannot take descriptors";
    let channel: DescriptorChannel;
    try {
      channel = DescriptorChannel.connect(name);
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
    const proof = crypto.randomUUID();
    try {
      channel.send({ data: new TextEncoder().encode(proof), descriptors: [] });
      await say(taker, { type: "prove" });
      const line = await taker.read(this.#timing.answerMs) ?? "";
      const message = parseMessage(line);
      if (message?.type === "proof" && message.proof === proof) {
        this.#conversations.proven(taker);
        return channel;
      }
    } catch (error) {
      channel[Symbol.dispose]();
      throw error;
    }
    channel[Symbol.dispose]();
    return "it did not prove who it is";
  }

  /** True: the other one serves everything. Else all is as it was. */
  async #give(
    taker: LineConnection,
    channel: DescriptorChannel | undefined,
  ): Promise<boolean> {
    const { resume } = this.#options;
    const sockets = channel && this.#options.sockets;
    logger.info("Handing over to another kube-portal");
    let reason = GONE;
    try {
      await this.#pause(taker);
      sockets?.setShared(true);
      if (channel !== undefined && sockets !== undefined) {
        await this.#send(taker, channel, sockets.all);
      }
      await say(taker, { type: "all" });
      if (await heard(taker, "done", this.#timing.takeOverMs)) return true;
    } catch (error) {
      reason = error instanceof Error ? error.message : String(error);
    }
    await say(taker, { type: "given up", reason });
    logger.warn("The other kube-portal did not take over; going on here", {
      reason,
    });
    sockets?.setShared(false);
    resume();
    return false;
  }

  /**
   * Until nothing is being written, for which the other process waits.
   *
   * @throws {Error} if that takes too long, fails, or the other one is gone
   */
  async #pause(taker: LineConnection): Promise<void> {
    const { pauseMs, sayEveryMs } = this.#timing;
    const gone = taker.ended.then(() => "gone" as const);
    const paused = Promise.race([this.#options.pause(), gone]);
    const givenUpAt = performance.now() + pauseMs;
    for (;;) {
      const leftMs = givenUpAt - performance.now();
      const result = await within(Math.min(leftMs, sayEveryMs), paused);
      if (result === "gone") throw new Error(GONE);
      if (result !== "late") return;
      if (performance.now() >= givenUpAt) {
        throw new Error(
          `what was being written here took longer than ${pauseMs / 1_000} s`,
        );
      }
      await say(taker, { type: "wait" });
    }
  }

  /** @throws {Error} if the kernel does not pass them on, or nobody takes them */
  async #send(
    taker: LineConnection,
    channel: DescriptorChannel,
    sockets: readonly LabelledSocket[],
  ): Promise<void> {
    const { namespaces } = this.#options;
    const paths = new Set(sockets.map(({ address }) => address.namespace));
    for (const path of paths) {
      if (path === undefined) continue;
      const descriptor = namespaces.open(path);
      try {
        channel.send({ data: BYTE, descriptors: [descriptor] });
      } finally {
        namespaces.close(descriptor);
      }
      await say(taker, { type: "namespace", path });
      await this.#mustHear(taker, "got");
    }
    for (let at = 0; at < sockets.length; at += DESCRIPTORS_MAX) {
      const some = sockets.slice(at, at + DESCRIPTORS_MAX);
      const descriptors = some.map(({ fd }) => fd);
      channel.send({ data: BYTE, descriptors });
      const labels = some.map(({ protocol, address, serviceAddress }) => ({
        protocol,
        address,
        serviceAddress,
      }));
      await say(taker, { type: "sockets", sockets: labels });
      await this.#mustHear(taker, "got");
    }
  }

  async #mustHear(
    taker: LineConnection,
    type: TakerMessage["type"],
  ): Promise<void> {
    if (await heard(taker, type, this.#timing.answerMs)) return;
    throw new Error("it has ended while it was given sockets");
  }
}

const BYTE = new Uint8Array([1]);

const GONE = "it has ended before it served everything";

async function say(
  taker: LineConnection,
  message: GiverMessage,
): Promise<void> {
  await taker.write(JSON.stringify(message));
}

/** False: the other end is gone, or says something else. */
async function heard(
  taker: LineConnection,
  type: TakerMessage["type"],
  timeoutMs?: number,
): Promise<boolean> {
  const line = await taker.read(timeoutMs);
  return line !== undefined && parseMessage(line)?.type === type;
}
