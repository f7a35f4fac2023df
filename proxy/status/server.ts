/**
 * What the proxy says of itself over HTTP. Reads the health it is given a
 * function for; changes nothing.
 *
 * @module
 */
import { Hono } from "hono";
import {
  type HealthInput,
  type HealthReport,
  liveness,
  readiness,
} from "./health.ts";

/** The app of the health port (10256): exactly these two paths, any method. */
export function healthApp(input: () => HealthInput): Hono {
  const app = new Hono();
  app.all("/healthz", () => answer(readiness(input())));
  app.all("/livez", () => answer(liveness(input())));
  app.notFound(() =>
    new Response("404 page not found\n", {
      status: 404,
      headers: { "Content-Type": "text/plain; charset=utf-8", ...NO_SNIFF },
    })
  );
  return app;
}

const NO_SNIFF = { "X-Content-Type-Options": "nosniff" };

function answer({ ok, body }: HealthReport): Response {
  return new Response(JSON.stringify(body), {
    status: ok ? 200 : 503,
    headers: { "Content-Type": "application/json", ...NO_SNIFF },
  });
}
