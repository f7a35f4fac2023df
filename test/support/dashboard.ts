/**
 * A dashboard on a port of its own, over a proxy that a test makes up.
 *
 * @module
 */
import { dashboardApp } from "../../proxy/status/dashboard.ts";
import { EventFeed } from "../../proxy/status/event_feed.ts";
import { StatusBoard } from "../../proxy/status/status_board.ts";
import type { FakeSource } from "./status_source.ts";

export interface ServedDashboard extends AsyncDisposable {
  readonly url: string;
  readonly feed: EventFeed;
}

export function serveDashboard(source: FakeSource): ServedDashboard {
  const ending = new AbortController();
  const feed = new EventFeed();
  const board = new StatusBoard(source, () => Date.now());
  const app = dashboardApp({ board, feed, signal: ending.signal });
  const server = Deno.serve(
    { hostname: "127.0.0.1", port: 0, onListen: () => {} },
    (request) => app.fetch(request),
  );
  return {
    url: `http://127.0.0.1:${server.addr.port}/`,
    feed,
    async [Symbol.asyncDispose]() {
      ending.abort();
      await server.shutdown();
    },
  };
}
