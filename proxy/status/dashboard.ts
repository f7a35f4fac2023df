/**
 * The dashboard: one page, its files, the stream it lives by, and the same as
 * JSON. Read-only. What the page may load is said in a header: its own files
 * and nothing else, so that a Service with a hostile name stays text.
 *
 * @module
 */
import { type Context, Hono } from "hono";
import { compress } from "hono/compress";
import { refusal } from "./access.ts";
import { liveStream } from "./live_stream.ts";
import { PAGE_FILES } from "./page_files.ts";
import type { EventFeed } from "./event_feed.ts";
import type { BoardPort, StatusBoard } from "./status_board.ts";
import type { EndpointRow } from "./port_row.ts";

export interface DashboardOptions {
  readonly board: StatusBoard;
  readonly feed: EventFeed;
  /** Ends the streams. */
  readonly signal: AbortSignal;
}

/** A Service port as the JSON answer has it. */
export interface PortStatus extends BoardPort {
  readonly endpoints: readonly EndpointRow[];
}

/** No older than this when it is shown, milliseconds: a look costs some. */
const FRESH_MS = 100;

/** Streams at a time; each costs work every second. */
const STREAMS_MAX = 32;

const HEADERS: Readonly<Record<string, string>> = {
  "Content-Security-Policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; " +
    "img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; " +
    "require-trusted-types-for 'script'; trusted-types 'none'",
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Resource-Policy": "same-origin",
  "Referrer-Policy": "no-referrer",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-store",
};

/** Answers GET and HEAD of the page's paths, and 404 elsewhere. */
export function dashboardApp(options: DashboardOptions): Hono {
  const { board, feed } = options;
  let streams = 0;
  const app = new Hono();
  app.use(async (context, next) => {
    const why = refusal(context.req.raw.headers);
    if (why !== undefined) return answer(`403 forbidden: ${why}\n`, 403);
    if (!["GET", "HEAD"].includes(context.req.method)) {
      return answer("405 method not allowed\n", 405, { Allow: "GET, HEAD" });
    }
    return await next();
  });
  // Events excepted, which have to go out one by one.
  app.use(compress());
  for (const { path, type, text } of PAGE_FILES) {
    app.get(path, () => answer(text, 200, { "Content-Type": type }));
  }
  app.get("/api/status", (context) => json(status(options, context)));
  app.get("/api/endpoints", (context) => {
    board.refresh(FRESH_MS);
    const rows = board.endpoints(context.req.query("port") ?? "");
    return rows === undefined
      ? answer("404 no such Service port\n", 404)
      : json({ endpoints: rows });
  });
  app.get("/events", (context) => {
    if (streams >= STREAMS_MAX) {
      return answer("503 too many pages are open\n", 503);
    }
    streams++;
    const body = liveStream({
      board,
      feed,
      port: context.req.query("port"),
      signal: options.signal,
      ended: () => streams--,
    });
    return new Response(body, {
      headers: { ...HEADERS, "Content-Type": "text/event-stream" },
    });
  });
  app.notFound(() => answer("404 page not found\n", 404));
  return app;
}

/** All of it, or with `?since=CURSOR` what is different. */
function status({ board, feed }: DashboardOptions, context: Context) {
  board.refresh(FRESH_MS);
  const changes = board.changes(context.req.query("since"));
  const after = Number(context.req.query("events") ?? 0);
  const changed = [
    ...changes.rows,
    ...changes.counted.map(([id]) => board.port(id)).filter((port) =>
      port !== undefined
    ),
  ];
  const ports: PortStatus[] = changed.map((port) => ({
    ...port,
    endpoints: board.endpoints(port.row.id) ?? [],
  }));
  return {
    cursor: changes.cursor,
    isComplete: changes.isComplete,
    overview: board.overview(),
    ports,
    removed: changes.removed,
    events: feed.since(Number.isFinite(after) ? after : 0),
  };
}

/** What `/api/status` answers. */
export type StatusDocument = ReturnType<typeof status>;

function json(body: unknown): Response {
  return answer(JSON.stringify(body), 200, {
    "Content-Type": "application/json",
  });
}

function answer(
  text: string,
  status: number,
  headers: Readonly<Record<string, string>> = {},
): Response {
  return new Response(text, {
    status,
    headers: {
      "Content-Type": "text/plain; charset=utf-8",
      ...HEADERS,
      ...headers,
    },
  });
}
