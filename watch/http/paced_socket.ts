/**
 * A connection, as `node:http` reads it: in pieces so small that no more than
 * a few requests are in one. By itself it takes all that came, 64 KiB or two
 * thousand requests, before anybody can stop it: a few hundred clients that
 * ask and never read would have held the whole program for a minute.
 *
 * @module
 */
import type { Socket } from "node:net";
import { Duplex } from "node:stream";

/** The shortest request has 18 bytes. */
const PIECE_BYTES = 256;

export class PacedSocket extends Duplex {
  readonly #socket: Socket;
  #lastAnswer = Promise.resolve();

  constructor(socket: Socket) {
    super({ allowHalfOpen: true });
    this.#socket = socket;
    socket.on("data", (chunk: Uint8Array) => this.#pass(chunk));
    socket.once("end", () => this.push(null));
    socket.on("error", (error) => this.destroy(error));
    socket.once("close", () => this.destroy());
    socket.on("timeout", () => this.emit("timeout"));
  }

  get localPort(): number | undefined {
    return this.#socket.localPort;
  }

  /**
   * Answers a request when those before it are answered; or not at all, if by
   * then the client has gone, or asked too much.
   */
  inTurn(answer: () => Promise<void>): Promise<void> {
    const turn = async () => {
      if (!this.destroyed) await answer();
    };
    this.#lastAnswer = this.#lastAnswer.then(turn, turn);
    return this.#lastAnswer;
  }

  /** As a socket's: `node:http` ends connections by it that ask nothing more. */
  setTimeout(ms: number, callback?: () => void): this {
    this.#socket.setTimeout(ms);
    if (callback !== undefined) this.once("timeout", callback);
    return this;
  }

  #pass(chunk: Uint8Array): void {
    let isWanted = true;
    for (let at = 0; at < chunk.length && !this.destroyed; at += PIECE_BYTES) {
      isWanted = this.push(chunk.subarray(at, at + PIECE_BYTES));
    }
    if (!isWanted) this.#socket.pause();
  }

  override _read(): void {
    this.#socket.resume();
  }

  override _write(
    chunk: Uint8Array,
    _encoding: BufferEncoding,
    done: (error?: Error | null) => void,
  ): void {
    this.#socket.write(chunk, done);
  }

  override _final(done: () => void): void {
    this.#socket.end(done);
  }

  override _destroy(
    error: Error | null,
    done: (error: Error | null) => void,
  ): void {
    this.#socket.destroy();
    done(error);
  }
}
