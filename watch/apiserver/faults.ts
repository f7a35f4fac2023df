/**
 * Ways to make the server misbehave as real ones do, for tests of what talks
 * to it: refusals, cut and silent watches, compaction, a restore from a
 * backup. None of it happens by itself.
 *
 * @module
 */
import { StatusError } from "./status.ts";
import type { Store } from "./store.ts";
import type { Watches } from "./watches.ts";

/** A request as it came. */
export interface LoggedRequest {
  readonly method: string;
  /** Path and query: `/api/v1/services?watch=1`. */
  readonly url: string;
}

export interface FaultyAnswer {
  readonly status: number;
  /** How many requests are answered so; 1 by default. */
  readonly times?: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Instead of a Status. */
  readonly body?: string;
  /** Only these requests; all by default. */
  readonly match?: (request: LoggedRequest) => boolean;
}

/**
 * - `stream`: as they should be.
 * - `refuse`: answered with 405, as by a proxy that allows plain reads only.
 * - `buffer`: the answer, header and all, comes when the watch has ended, as
 *   through a proxy that buffers.
 */
export type WatchMode = "stream" | "refuse" | "buffer";

const REASONS: Readonly<Record<number, string>> = {
  400: "BadRequest",
  401: "Unauthorized",
  403: "Forbidden",
  404: "NotFound",
  410: "Expired",
  429: "TooManyRequests",
  500: "InternalError",
  503: "ServiceUnavailable",
  504: "Timeout",
};

/** The log holds the latest requests, twice as many at most. */
const MAX_LOGGED = 10_000;

export class Faults {
  /** How watches are answered from now on. */
  watchMode: WatchMode = "stream";
  /** Who does not show this bearer token is answered 401; undefined: nobody is. */
  token: string | undefined;
  #requests: LoggedRequest[] = [];
  #answers: { answer: FaultyAnswer; left: number }[] = [];
  readonly #store: Store;
  readonly #watches: Watches;
  readonly #reloaded: () => void;

  /** @param reloaded called when the objects went back to an earlier state */
  constructor(store: Store, watches: Watches, reloaded: () => void) {
    this.#store = store;
    this.#watches = watches;
    this.#reloaded = reloaded;
  }

  /** Every request so far, the faulty ones too. */
  get requests(): readonly LoggedRequest[] {
    return this.#requests;
  }

  /** Answers the next requests with an error; answers queue up. */
  respondWith(answer: FaultyAnswer): void {
    this.#answers.push({ answer, left: answer.times ?? 1 });
  }

  /** Forgets history: a watch or list at an old resourceVersion is a 410. */
  compact(): void {
    this.#store.compact();
  }

  /** Cuts every open watch mid-stream; new ones are well. */
  breakStreams(): void {
    this.#watches.break();
  }

  /** Ends every open watch properly, before its time. */
  endStreams(): void {
    this.#watches.end();
  }

  /** Sends a bookmark on every open watch that takes them. */
  bookmark(): void {
    this.#watches.bookmark();
  }

  /** Open watches, and those that are opened, get nothing and do not end. */
  silence(): void {
    this.#watches.silence();
  }

  /** Sends what was held back by `silence`. */
  resume(): void {
    this.#watches.resume();
  }

  /**
   * Goes back to the state at an earlier resourceVersion, as a cluster
   * restored from a backup: watches are cut, and versions are given out again.
   *
   * @throws {RangeError} that state is not known
   */
  rewind(resourceVersion: string): void {
    this.#store.rewind(Number(resourceVersion));
    this.#reloaded();
    this.#watches.break();
  }

  /**
   * Logs a request; a faulty answer is thrown. Called once for each.
   *
   * @param authorization the header, if there is one
   */
  admit(request: LoggedRequest, authorization?: string | null): void {
    this.#requests.push(request);
    if (this.#requests.length >= 2 * MAX_LOGGED) {
      this.#requests = this.#requests.slice(-MAX_LOGGED);
    }
    if (this.token !== undefined && authorization !== `Bearer ${this.token}`) {
      throw new FaultyResponse({ status: 401 });
    }
    const entry = this.#answers.find(({ answer }) =>
      answer.match?.(request) ?? true
    );
    if (entry === undefined) return;
    if (--entry.left <= 0) {
      this.#answers = this.#answers.filter((other) => other !== entry);
    }
    throw new FaultyResponse(entry.answer);
  }
}

/** What `respondWith` asked for; a Status unless it has a body of its own. */
export class FaultyResponse extends StatusError {
  constructor(readonly answer: FaultyAnswer) {
    const { status, headers = {} } = answer;
    const reason = REASONS[status];
    super(status, "this answer was asked for by a test", {
      headers,
      ...(reason === undefined ? {} : { reason }),
    });
  }
}
