/**
 * Lines over a connection between two processes of one machine. In: bytes. Out:
 * lines, each waited for no longer than one wants. Knows no message.
 *
 * @module
 */

import { within } from "./within.ts";

/** Longer than any line that is sent: 250 sockets and what they are for. */
const LINE_BYTES_MAX = 256 * 1024;

/** Nothing came in time. */
export class SilenceError extends Error {
  override readonly name = "SilenceError";
}

export class LineConnection implements Disposable {
  /** Resolves when nothing more will come. */
  readonly ended: Promise<void>;
  readonly #connection: Deno.Conn;
  readonly #lines: string[] = [];
  #arrived = Promise.withResolvers<void>();
  #isEnded = false;
  #isClosed = false;

  /** Owns the connection. */
  constructor(connection: Deno.Conn) {
    this.#connection = connection;
    this.ended = this.#readAll();
  }

  async #readAll(): Promise<void> {
    const decoder = new TextDecoder();
    const chunk = new Uint8Array(16 * 1024);
    let rest = "";
    // Who sends without end is not listened to.
    while (rest.length < LINE_BYTES_MAX && this.#lines.length < 16) {
      const bytes = await this.#connection.read(chunk).catch(() => null);
      if (bytes === null) break;
      rest += decoder.decode(chunk.subarray(0, bytes), { stream: true });
      const lines = rest.split("\n");
      rest = lines.pop() ?? "";
      if (lines.length === 0) continue;
      this.#lines.push(...lines);
      this.#arrived.resolve();
    }
    this.#isEnded = true;
    this.#arrived.resolve();
  }

  /**
   * The next line, without its end.
   *
   * @param timeoutMs how long it is waited for; without, for ever
   * @returns `undefined` if the other end is gone
   * @throws {SilenceError} if it takes too long
   */
  async read(timeoutMs?: number): Promise<string | undefined> {
    const arrived = this.#untilArrived();
    const result = timeoutMs === undefined
      ? await arrived
      : await within(timeoutMs, arrived);
    if (result === "late") {
      throw new SilenceError(`No answer for ${timeoutMs! / 1_000} s`);
    }
    return this.#lines.shift();
  }

  async #untilArrived(): Promise<void> {
    while (this.#lines.length === 0 && !this.#isEnded) {
      await this.#arrived.promise;
      this.#arrived = Promise.withResolvers();
    }
  }

  /** Sends a line. Nothing is said if the other end is gone: `read` tells. */
  async write(line: string): Promise<void> {
    const bytes = new TextEncoder().encode(`${line}\n`);
    try {
      for (let at = 0; at < bytes.length;) {
        at += await this.#connection.write(bytes.subarray(at));
      }
    } catch {
      // As above.
    }
  }

  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    this.#connection.close();
  }
}
