/**
 * Hands datagrams to the kernel, one after another or many at once, and sorts
 * what it says: gone, lost, or no way there. In: where they are. Out: calls for
 * those that went and those that were dropped, and what stopped it.
 *
 * @module
 */
import { EAGAIN, EINTR, EMSGSIZE, errnoText, isExhausted } from "./errors.ts";
import { type Libc, MSG_NOSIGNAL } from "./libc.ts";
import type { DatagramBatch } from "./udp_batch.ts";

/** Datagrams that are to be sent, by their numbers `from` to `to` (excluded). */
export interface Run {
  readonly from: number;
  readonly to: number;
  /** Sends from `at` on. How many were sent; -1: not even the first. */
  send(at: number): number;
  /** Bytes. */
  length(at: number): number;
}

/** Told of each datagram that is not left over. */
export interface RunReceiver {
  sent(at: number, bytes: number): void;
  /** Neither end is to blame. */
  dropped(count: number, properties: { bytes: number; reason: string }): void;
}

/** There is no way to the receiver. */
export interface Stopped {
  /** The first that was not sent. */
  readonly at: number;
  readonly cause: string;
}

/** @returns undefined: all were sent, or dropped */
export function sendRun(
  libc: Libc,
  run: Run,
  receiver: RunReceiver,
): Stopped | undefined {
  for (let at = run.from; at < run.to;) {
    const sent = run.send(at);
    if (sent > 0) {
      for (const end = at + sent; at < end; at++) {
        receiver.sent(at, run.length(at));
      }
      continue;
    }
    const errno = libc.errno();
    if (errno === EINTR) continue;
    const reason = droppedFor(errno);
    if (reason === undefined) return { at, cause: errnoText(errno) };
    // What the way does not hold, it holds for none of them.
    const to = errno === EMSGSIZE ? at + 1 : run.to;
    receiver.dropped(to - at, { bytes: run.length(at), reason });
    at = to;
  }
  return undefined;
}

/** What is in slots of the batch, for the endpoint of a connected socket. */
export function runOfSlots(
  batch: DatagramBatch,
  range: { readonly from: number; readonly to: number },
  fd: number,
): Run {
  const { from, to } = range;
  return {
    from,
    to,
    send: (at) => batch.sendToEndpoint(fd, at, to),
    length: (at) => batch.length(at),
  };
}

/** The same, for copies. */
export function runOfCopies(
  libc: Libc,
  datagrams: readonly Uint8Array<ArrayBuffer>[],
  fd: number,
): Run {
  return {
    from: 0,
    to: datagrams.length,
    send(at) {
      const data = datagrams[at]!;
      const sent = libc.call.send(fd, data, data.length, MSG_NOSIGNAL);
      return sent === -1 ? -1 : 1;
    },
    length: (at) => datagrams[at]!.length,
  };
}

function droppedFor(errno: number): string | undefined {
  if (errno === EMSGSIZE) return "too large";
  // A device is slower than we are; we drop, as a router would.
  if (errno === EAGAIN) return "queue full";
  return isExhausted(errno) ? "exhausted" : undefined;
}
