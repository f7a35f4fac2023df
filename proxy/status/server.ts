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

/** Told of every answer, to be counted (fact 7.14). */
export type Answered = (path: "healthz" | "livez", code: number) => void;

/** The app of the health port (10256): exactly these two paths, any method. */
export function healthApp(
  input: () => HealthInput,
  answered: Answered = () => {},
): Hono {
  const app = new Hono();
  app.all("/healthz", () => {
    const report = readiness(input());
    answered("healthz", report.ok ? 200 : 503);
    return answer(report);
  });
  app.all("/livez", () => {
    const report = liveness(input());
    answered("livez", report.ok ? 200 : 503);
    return answer(report);
  });
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
