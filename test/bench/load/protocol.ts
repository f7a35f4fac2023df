/**
 * What the load generator and its endpoint say to each other: as little HTTP as
 * makes `curl` and `wrk` content. Each request fits one segment, and the end of
 * an answer is known by counting.
 *
 * @module
 */

const encoder = new TextEncoder();

/** Bytes of the body that is asked for again and again. */
export const BODY_BYTES = 1024;

/** An answer of {@linkcode BODY_BYTES}; the connection stays. */
export const REQUEST = request("/");
/** The same answer, after which the endpoint closes. */
export const REQUEST_AND_CLOSE = request("/close");
/** Bytes until the client closes. */
export const REQUEST_STREAM = request("/stream");

/** To {@linkcode REQUEST} and {@linkcode REQUEST_AND_CLOSE}. */
export const ANSWER = answer(BODY_BYTES);

function request(path: string): Uint8Array<ArrayBuffer> {
  return encoder.encode(`GET ${path} HTTP/1.1\r\nHost: bench\r\n\r\n`);
}

function answer(bytes: number): Uint8Array<ArrayBuffer> {
  const head = `HTTP/1.1 200 OK\r\nContent-Length: ${bytes}\r\n\r\n`;
  return encoder.encode(head + "x".repeat(bytes));
}

/** A question to the load generator; one line of JSON, as is the answer. */
export type Question =
  & {
    /** Where to: taken in turn. */
    readonly to: readonly { readonly ip: string; readonly port: number }[];
    /** Whose CPU time is counted, all threads. */
    readonly pids: readonly number[];
    /** Who takes part beside them and the load generator. */
    readonly helpers: readonly number[];
    /** Connections, or datagrams, that are under way at the same time. */
    readonly concurrency: number;
    readonly warmUpMs: number;
    readonly windowMs: number;
  }
  & (
    | { readonly type: "stream" | "keep-alive" | "connect" }
    | { readonly type: "paced"; readonly perSecond: number }
    | { readonly type: "datagrams"; readonly bytes: number }
    /** Opens them, one answer each; they stay until `close`. */
    | { readonly type: "open" | "close" }
    /**
     * One connection after another, `concurrency` in all, timed each; between
     * them a random pause, of so many milliseconds on average, or none.
     */
    | { readonly type: "one by one"; readonly pauseMs?: number }
  );

/** What was counted in the window. */
export interface Counted {
  /** Answers, connections or datagrams; for a stream, bytes. */
  readonly count: number;
  readonly seconds: number;
  /** Of `pids`, user and system. */
  readonly cpuSeconds: number;
  /** CPUs that others on this machine used at the same time. */
  readonly othersCpus: number;
  /** Refused, reset, lost. */
  readonly failures: number;
  /** Where single answers are timed, microseconds. */
  readonly p50Us?: number;
  readonly p99Us?: number;
}
