/**
 * The app of the metrics port (10249): what kube-proxy answers there (facts
 * 7.16–7.20). Whatever else the port serves (the dashboard) is mounted by the
 * wiring.
 *
 * @module
 */
import { Hono } from "hono";
import { compress } from "hono/compress";
import type { Metrics } from "./metrics.ts";

export interface MetricsAppOptions {
  readonly metrics: Pick<Metrics, "expose">;
  /** The effective configuration, a KubeProxyConfiguration ready for JSON. */
  configz(): Readonly<Record<string, unknown>>;
  /** Serves every path that is not kube-proxy's; without it they are 404. */
  readonly rest?: (request: Request) => Response | Promise<Response>;
}

/** What we are, in kube-proxy's word. */
const PROXY_MODE = "userspace";

const PLAIN = {
  "Content-Type": "text/plain; charset=utf-8",
  "X-Content-Type-Options": "nosniff",
};

/** Answers GET and HEAD; there is nothing to change here. */
export function metricsApp(options: MetricsAppOptions): Hono {
  const app = new Hono();
  app.use(async (context, next) => {
    if (!["GET", "HEAD"].includes(context.req.method)) {
      return new Response("405 method not allowed\n", {
        status: 405,
        headers: { ...PLAIN, Allow: "GET, HEAD" },
      });
    }
    return await next();
  });
  for (const path of ["/healthz", "/healthz/ping"]) {
    app.get(path, (context) => {
      const isVerbose = context.req.query("verbose") !== undefined;
      return plain(isVerbose ? "[+]ping ok\nhealthz check passed\n" : "ok");
    });
  }
  app.get("/proxyMode", () => plain(PROXY_MODE));
  app.get("/metrics", compress(), async (context) => {
    const accept = context.req.header("Accept");
    const { contentType, text } = await options.metrics.expose(accept);
    return new Response(text, { headers: { "Content-Type": contentType } });
  });
  app.get("/configz", () => {
    const body = { "kubeproxy.config.k8s.io": options.configz() };
    return new Response(JSON.stringify(body), {
      headers: {
        "Content-Type": "application/json",
        "X-Content-Type-Options": "nosniff",
      },
    });
  });
  app.notFound((context) =>
    options.rest?.(context.req.raw) ?? plain("404 page not found\n", 404)
  );
  return app;
}

function plain(text: string, status = 200): Response {
  return new Response(text, { status, headers: PLAIN });
}
