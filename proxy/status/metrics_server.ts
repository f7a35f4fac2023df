/**
 * The app of the metrics port (10249): what kube-proxy answers there (facts
 * 7.16–7.21). Whatever else the port serves (the dashboard) is mounted by the
 * wiring.
 *
 * @module
 */
import { Hono } from "hono";
import { compress } from "hono/compress";
import type { Metrics } from "./metrics.ts";
import { zpages, type ZpagesOptions } from "./zpages.ts";

export interface MetricsAppOptions {
  /** In kube-proxy's word: `userspace`, `iptables`. */
  readonly mode: string;
  readonly metrics: Pick<Metrics, "expose" | "exposeSlis">;
  /** The effective configuration, a KubeProxyConfiguration ready for JSON. */
  configz(): Readonly<Record<string, unknown>>;
  /** What `/statusz` and `/flagz` tell. */
  readonly about: Omit<ZpagesOptions, "paths">;
  /** Serves every path that is not kube-proxy's; without it they are 404. */
  readonly rest?: (request: Request) => Response | Promise<Response>;
}

/** Of kube-proxy's that are answered here. */
const PATHS = [
  "/configz",
  "/healthz",
  "/metrics",
  "/metrics/slis",
  "/proxyMode",
];

const PLAIN = {
  "Content-Type": "text/plain; charset=utf-8",
  "X-Content-Type-Options": "nosniff",
};

/** Answers GET and HEAD; there is nothing to change here. */
export function metricsApp(options: MetricsAppOptions): Hono {
  const app = new Hono();
  let pings = 0;
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
      pings++;
      const isVerbose = context.req.query("verbose") !== undefined;
      return plain(isVerbose ? "[+]ping ok\nhealthz check passed\n" : "ok");
    });
  }
  app.get("/proxyMode", () => plain(options.mode));
  app.get("/metrics", compress(), async (context) => {
    const accept = context.req.header("Accept");
    const { contentType, text } = await options.metrics.expose(accept);
    return new Response(text, { headers: { "Content-Type": contentType } });
  });
  app.get("/metrics/slis", async (context) => {
    const accept = context.req.header("Accept");
    const slis = await options.metrics.exposeSlis(pings, accept);
    return new Response(slis.text, {
      headers: { "Content-Type": slis.contentType },
    });
  });
  app.route("/", zpages({ ...options.about, paths: PATHS }));
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
