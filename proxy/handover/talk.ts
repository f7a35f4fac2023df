/**
 * One conversation with the process that steers, from the side that takes over:
 * the introduction, in which each learns who the other one is, and the passing
 * on of what is given. In: a connection to the lock. Out: a conversation that
 * can be asked for everything, or why there is none.
 *
 * @module
 */
import {
  type DescriptorChannel,
  DescriptorListener,
} from "../engine/descriptor_channel.ts";
import type {
  LabelledSocket,
  SocketLabel,
} from "../engine/listening_sockets.ts";
import type { LockHolder } from "../rules/lock.ts";
import { LineConnection } from "./line_connection.ts";
import {
  type GiverMessage,
  parseMessage,
  PROTOCOL,
  type TakerMessage,
} from "./messages.ts";

export interface TalkOptions {
  readonly version: string;
  /** There is FFI to take them with. */
  readonly takesDescriptors: boolean;
  /** Milliseconds for each answer: beyond it, the other process hangs. */
  readonly answerMs: number;
  close(descriptor: number): void;
}

export class Talk implements Disposable {
  readonly holder: LockHolder;
  /** Why it hands over only when it is told to stop; else `undefined`. */
  later: string | undefined;
  /**
   * What it says next, as soon as it has let go of the machine: that it goes on
   * after all, or that it leaves.
   */
  next: Promise<GiverMessage | undefined> | undefined;
  readonly #options: TalkOptions;
  readonly #connection: LineConnection;
  #channel: DescriptorChannel | undefined;

  private constructor(
    holder: LockHolder,
    connection: LineConnection,
    options: TalkOptions,
  ) {
    this.holder = holder;
    this.#connection = connection;
    this.#options = options;
  }

  /**
   * Introduces itself. Owns the connection, whatever comes of it.
   *
   * @throws {Error} if the other process does not hand over: why, as the rest
   *   of a sentence
   */
  static async begin(
    holder: LockHolder,
    connection: Deno.Conn,
    options: TalkOptions,
  ): Promise<Talk> {
    const talk = new Talk(holder, new LineConnection(connection), options);
    try {
      await talk.#introduce();
      return talk;
    } catch (error) {
      talk[Symbol.dispose]();
      throw error;
    }
  }

  async #introduce(): Promise<void> {
    const { version, takesDescriptors } = this.#options;
    using listener = takesDescriptors ? new DescriptorListener() : undefined;
    const channel = listener === undefined ? {} : { channel: listener.name };
    await this.say({ type: "hello", protocol: PROTOCOL, version, ...channel });
    for (;;) {
      const message = await this.hear();
      if (message?.type === "prove" && listener !== undefined) {
        this.#channel = listener.accept();
        const { data } = this.#channel.receive();
        await this.say({
          type: "proof",
          proof: new TextDecoder().decode(data),
        });
      } else if (message?.type === "ready") return;
      else if (message?.type === "later") {
        this.#channel?.[Symbol.dispose]();
        this.#channel = undefined;
        this.later = message.reason;
        return;
      } else if (message?.type === "no") throw new Error(message.reason);
      else throw new Error("it does not hand over");
    }
  }

  /**
   * The sockets of a message, whose descriptors have been sent.
   *
   * @throws {Error} if they have not
   */
  receiveSockets(labels: readonly SocketLabel[]): LabelledSocket[] {
    const channel = this.#provenChannel();
    const descriptors = this.#receive(channel, labels.length);
    return labels.map((label, index) => ({
      ...label,
      fd: descriptors[index]!,
    }));
  }

  /** @throws {Error} if the one descriptor has not been sent */
  receiveDescriptor(): number {
    return this.#receive(this.#provenChannel(), 1)[0]!;
  }

  /** Who has not proven who it is has none, and nothing to give. */
  #provenChannel(): DescriptorChannel {
    if (this.#channel !== undefined) return this.#channel;
    throw new Error("it gives what it was not asked for");
  }

  #receive(channel: DescriptorChannel, count: number): readonly number[] {
    const { descriptors } = channel.receive();
    if (descriptors.length === count) return descriptors;
    for (const descriptor of descriptors) this.#options.close(descriptor);
    throw new Error(
      `it gave ${descriptors.length} descriptors where it named ${count}`,
    );
  }

  async say(message: TakerMessage): Promise<void> {
    await this.#connection.write(JSON.stringify(message));
  }

  /**
   * `undefined`: the other end is gone.
   *
   * @param timeoutMs that of each answer, if not given
   * @throws {SilenceError} if it says nothing in time
   */
  async hear(
    timeoutMs: number = this.#options.answerMs,
  ): Promise<GiverMessage | undefined> {
    const line = await this.#connection.read(
      timeoutMs === Infinity ? undefined : timeoutMs,
    );
    if (line === undefined) return undefined;
    const message = parseMessage(line);
    if (message === undefined) throw new Error("it says what is no message");
    return message as GiverMessage;
  }

  [Symbol.dispose](): void {
    this.#channel?.[Symbol.dispose]();
    this.#connection[Symbol.dispose]();
  }
}
