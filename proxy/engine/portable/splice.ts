/**
 * Moves bytes between a client and its endpoint until both have said all they
 * have to say. In: two connections. Out: how it ended, and how many bytes. It
 * knows nothing of Services, and the ordinary ends of a connection are results
 * here, not errors.
 *
 * `readable.pipeTo(writable)` would be shorter, costs three times the CPU, and
 * closes the whole connection at the first end, so that the reply is lost
 * (denoland/deno#22258).
 *
 * @module
 */
import type { Traffic } from "../counters.ts";
import type { BufferPool } from "./buffers.ts";
import { type Activity, AGED } from "./connection_age.ts";

/**
 * After one direction has ended, the other is cut when no byte has passed for
 * this long, in milliseconds.
 *
 * Both extremes have been tried in the field: closing everything at the first
 * end loses replies (moby/libnetwork#1598), and waiting for ever leaks every
 * connection whose endpoint ignores the end (kubernetes#18354). Commands
 * whose input has ended may be silent for minutes before they answer; ten is
 * also nginx's `proxy_timeout`. kube-proxy lets the kernel keep such a
 * connection for an hour (`tcpCloseWaitTimeout`), where it costs a conntrack
 * entry, not two descriptors.
 */
export const LINGER_MS = 600_000;

/**
 * - `eof`: each side ended its direction, and all bytes were passed on
 * - `idle`: one side ended, the other stayed silent for the linger time
 * - `reset`: a side broke the connection; bytes may be lost
 * - `aged`: the caller's signal, aborted with the reason {@linkcode AGED}
 * - `aborted`: the caller's signal, with any other reason
 */
export type SpliceReason = "eof" | "idle" | "reset" | "aged" | "aborted";

/** How a connection ended; bytes are those handed to the kernel. */
export interface SpliceResult {
  readonly reason: SpliceReason;
  readonly bytesToEndpoint: number;
  readonly bytesToClient: number;
}

/** A read of the client's that was begun before there was an endpoint. */
export interface EarlyRead {
  /** A small one of the pool's, which is given back. */
  readonly buffer: Uint8Array<ArrayBuffer>;
  /** As `Deno.Conn.read` answers. */
  readonly result: Promise<number | null>;
}

export interface SpliceOptions {
  /** Cuts both connections. */
  readonly signal: AbortSignal;
  /** Milliseconds, see {@linkcode LINGER_MS}. */
  readonly lingerMs: number;
  readonly buffers: BufferPool;
  /** Grows while bytes move, so that long connections show in time. */
  readonly traffic: Traffic;
  readonly earlyRead?: EarlyRead;
  /** Sent to the endpoint before the client's first byte, and not counted. */
  readonly preface?: Uint8Array;
  /** Kept up to date while bytes move. */
  readonly activity?: Activity;
  /** Called when first bytes have been passed on, and perhaps once more. */
  readonly begun?: () => void;
}

/**
 * Owns both connections from here on, and has closed both when it resolves.
 * Never rejects.
 */
export function splice(
  client: Deno.TcpConn,
  endpoint: Deno.TcpConn,
  options: SpliceOptions,
): Promise<SpliceResult> {
  return new Splice(client, endpoint, options).run();
}

/** The two directions of a connection, which differ in what they count. */
type Direction = "toEndpoint" | "toClient";

/**
 * States: both directions open → one ended, linger timer runs → both ended.
 * `#reason` is set by what ends it first, except `reset` by a failed write,
 * which waits for the other direction.
 */
class Splice {
  readonly #client: Deno.TcpConn;
  readonly #endpoint: Deno.TcpConn;
  readonly #options: SpliceOptions;
  #reason: SpliceReason = "eof";
  #closed = false;
  #bytesToEndpoint = 0;
  #bytesToClient = 0;
  #lingerTimer: ReturnType<typeof setTimeout> | undefined;
  /** Since when no byte has passed; looked at only while lingering. */
  #silentSince = 0;

  constructor(
    client: Deno.TcpConn,
    endpoint: Deno.TcpConn,
    options: SpliceOptions,
  ) {
    this.#client = client;
    this.#endpoint = endpoint;
    this.#options = options;
  }

  async run(): Promise<SpliceResult> {
    const { signal, earlyRead } = this.#options;
    const abort = () => this.#cut(signal.reason === AGED ? AGED : "aborted");
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
    await Promise.all([
      this.#copy("toEndpoint", this.#client, this.#endpoint, earlyRead),
      this.#copy("toClient", this.#endpoint, this.#client),
    ]);
    signal.removeEventListener("abort", abort);
    this.#cut(this.#reason);
    return {
      reason: this.#reason,
      bytesToEndpoint: this.#bytesToEndpoint,
      bytesToClient: this.#bytesToClient,
    };
  }

  /**
   * One direction, from the first byte to its end. The next read starts only
   * when everything was written: a receiver that is slow fills its own kernel
   * buffer, then the sender's, and stops the sender. We hold one buffer.
   */
  async #copy(
    direction: Direction,
    source: Deno.TcpConn,
    target: Deno.TcpConn,
    earlyRead?: EarlyRead,
  ): Promise<void> {
    const { buffers, preface, begun } = this.#options;
    const small = earlyRead?.buffer ?? buffers.takeSmall();
    let large: Uint8Array<ArrayBuffer> | undefined;
    let early = earlyRead?.result;
    let writes = 0;
    try {
      let takesMore = true;
      if (direction === "toEndpoint" && preface !== undefined) {
        takesMore = await this.#write(target, preface);
        writes++;
      }
      while (takesMore) {
        const buffer = large ?? small;
        const count = await this.#read(source, buffer, early);
        early = undefined;
        if (count === null) break;
        if (++writes === 2) setNoDelay(target);
        takesMore = await this.#write(
          target,
          buffer.subarray(0, count),
          direction,
        );
        // With a preface, it is the second write.
        if (writes <= 2) begun?.();
        if (count === buffer.length) large ??= buffers.take();
        else if (large !== undefined) {
          // There was no more to read, so that the next read may wait for
          // hours: it must not hold a large buffer meanwhile.
          buffers.giveBack(large);
          large = undefined;
        }
      }
    } finally {
      if (large !== undefined) buffers.giveBack(large);
      if (early === undefined) buffers.giveBackSmall(small);
    }
    const isLast = this.#directionEnded();
    // The close that follows at once says it, too.
    if (this.#closed || isLast && this.#reason === "eof") return;
    // Harmless after a failed write. It fails when the other side is gone,
    // which the other direction finds out.
    await target.closeWrite().catch(() => {});
  }

  /** Bytes read, or null at the end, whatever kind of end it is. */
  async #read(
    source: Deno.TcpConn,
    buffer: Uint8Array<ArrayBuffer>,
    early: Promise<number | null> | undefined,
  ): Promise<number | null> {
    try {
      return await (early ?? source.read(buffer));
    } catch {
      // The sender broke off, or keep-alive found it dead. Nothing can reach
      // it any more, so the other direction has no purpose either.
      this.#cut("reset");
      return null;
    }
  }

  /**
   * @param direction as which the bytes count; ours do not
   * @returns false: the receiver takes no more
   */
  async #write(
    target: Deno.TcpConn,
    bytes: Uint8Array,
    direction?: Direction,
  ): Promise<boolean> {
    const { activity } = this.#options;
    if (activity !== undefined) activity.writes++;
    try {
      while (true) {
        const written = await target.write(bytes);
        if (direction !== undefined) this.#count(direction, written);
        if (written === bytes.length) return true;
        bytes = bytes.subarray(written);
      }
    } catch {
      // What the receiver sent before it closed is still to be read, as an
      // early answer to an upload is: the other direction goes on to its end.
      if (!this.#closed) this.#reason = "reset";
      return false;
    } finally {
      if (activity !== undefined) activity.writes--;
    }
  }

  #count(direction: Direction, bytes: number): void {
    const { traffic, activity } = this.#options;
    if (direction === "toEndpoint") {
      this.#bytesToEndpoint += bytes;
      traffic.bytesToEndpoints += bytes;
    } else {
      this.#bytesToClient += bytes;
      traffic.bytesToClients += bytes;
    }
    if (activity !== undefined) {
      activity.bytes += bytes;
      activity.isAnswerDue = direction === "toEndpoint";
    }
    if (this.#lingerTimer !== undefined) this.#silentSince = performance.now();
  }

  /** @returns whether the other one has ended, too */
  #directionEnded(): boolean {
    if (this.#closed) return true;
    if (this.#lingerTimer !== undefined) {
      clearTimeout(this.#lingerTimer);
      return true;
    }
    this.#silentSince = performance.now();
    this.#linger(this.#options.lingerMs);
    return false;
  }

  #linger(delayMs: number): void {
    this.#lingerTimer = setTimeout(() => {
      const silentMs = performance.now() - this.#silentSince;
      const restMs = this.#options.lingerMs - silentMs;
      if (restMs > 0) this.#linger(restMs);
      else this.#cut("idle");
    }, delayMs);
  }

  /** Ends both directions at once; pending reads and writes fail. */
  #cut(reason: SpliceReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#reason = reason;
    clearTimeout(this.#lingerTimer);
    this.#client.close();
    this.#endpoint.close();
  }
}

/**
 * We write what has arrived as it arrived, and waiting for more would add up to
 * 40 ms (Nagle against delayed acknowledgements) that a direct connection does
 * not have. The first write never waits: most connections get along without a
 * call for this.
 */
function setNoDelay(connection: Deno.TcpConn): void {
  try {
    connection.setNoDelay(true);
  } catch {
    // It is gone already, as the next write says.
  }
}
