/**
 * What a page hears: server-sent events, once a second, of what is different.
 * A page that just came is told everything in pieces, so that ten thousand
 * Services are not one long stop for the connections that we forward.
 *
 * @module
 */
import type { EventFeed } from "./event_feed.ts";
import type { BoardPort, StatusBoard } from "./status_board.ts";

/** Between two looks, milliseconds. */
const PERIOD_MS = 1_000;
/** Of several pages one look serves all. */
const FRESH_MS = 900;
/** Service ports in one event. */
const ROWS_MAX = 250;

export interface LiveStreamOptions {
  readonly board: StatusBoard;
  readonly feed: EventFeed;
  /** Tells the endpoints of this Service port, and nothing else. */
  readonly port: string | undefined;
  readonly signal: AbortSignal;
  /** Told once, however it ended. */
  ended(): void;
}

/**
 * Events: `history` (once), then `overview`, `rows`, `counts`, `removed`, `log`,
 * as they have something to tell; `rows` with `isFirst` begins everything anew.
 * Of one Service port: `endpoints`, when they changed.
 */
export function liveStream(
  options: LiveStreamOptions,
): ReadableStream<Uint8Array> {
  const { signal, port } = options;
  const end = new AbortController();
  const abort = () => end.abort();
  signal.addEventListener("abort", abort, { once: true });
  if (signal.aborted) abort();
  const ending: Ending = {
    signal: end.signal,
    ended() {
      signal.removeEventListener("abort", abort);
      options.ended();
    },
  };
  const events = port === undefined
    ? everything(options, ending)
    : endpoints(options.board, port, ending);
  const encoder = new TextEncoder();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await events.next();
      if (done) controller.close();
      else controller.enqueue(encoder.encode(value));
    },
    async cancel() {
      end.abort();
      await events.return();
    },
  }, { highWaterMark: 0 });
}

interface Ending {
  readonly signal: AbortSignal;
  ended(): void;
}

async function* everything(
  { board, feed }: LiveStreamOptions,
  { signal, ended }: Ending,
): AsyncGenerator<string, void> {
  let cursor = "";
  let heard = 0;
  try {
    board.refresh(FRESH_MS);
    yield event("history", board.history);
    while (!signal.aborted) {
      board.refresh(FRESH_MS);
      const changes = board.changes(cursor);
      cursor = changes.cursor;
      yield event("overview", board.overview());
      yield* rows(changes.rows, changes.isComplete);
      if (changes.counted.length > 0) yield event("counts", changes.counted);
      if (changes.removed.length > 0) yield event("removed", changes.removed);
      const entries = feed.since(heard);
      heard = feed.last;
      if (entries.length > 0) yield event("log", entries);
      await pause(PERIOD_MS, signal);
    }
  } finally {
    ended();
  }
}

async function* endpoints(
  board: StatusBoard,
  id: string,
  { signal, ended }: Ending,
): AsyncGenerator<string, void> {
  let told = "";
  try {
    while (!signal.aborted) {
      board.refresh(FRESH_MS);
      const next = event("endpoints", {
        id,
        endpoints: board.endpoints(id) ?? [],
      });
      if (next !== told) yield told = next;
      await pause(PERIOD_MS, signal);
    }
  } finally {
    ended();
  }
}

function* rows(
  all: readonly BoardPort[],
  isComplete: boolean,
): Generator<string> {
  if (all.length === 0 && !isComplete) return;
  for (let at = 0; at === 0 || at < all.length; at += ROWS_MAX) {
    yield event("rows", {
      isFirst: isComplete && at === 0,
      isLast: at + ROWS_MAX >= all.length,
      ports: all.slice(at, at + ROWS_MAX),
    });
  }
}

function event(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** Not longer than until the end. */
function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, ms);
    signal.addEventListener("abort", end, { once: true });
    if (signal.aborted) end();
  });
}
