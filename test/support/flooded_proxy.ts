/**
 * The whole program with Services to flood, and one beside them whose clients
 * are to notice nothing: `flooded` and `steady`, for TCP and UDP, whose endpoint
 * is `test/bench/load/endpoint.ts`; `held`, whose endpoint sends back what it
 * gets; and `dead`, whose endpoint does not answer.
 *
 * @module
 */
import { Endpoints, Generator } from "../bench/load/client.ts";
import type { Counted, Question } from "../bench/load/protocol.ts";
import { startTied } from "../bench/subjects.ts";
import type { Child } from "./child.ts";
import { type KubeObject, manifest } from "./kube_objects.ts";
import { freePort, startKubePortal } from "./kube_portal.ts";
import { loopbackRange } from "./loopback.ts";
import { temporaryFolder } from "./temporary_folder.ts";
import { blackHole, echoServer } from "./tcp.ts";

export type FloodedService = "flooded" | "steady" | "held" | "dead";

/** A port that no Service of a running cluster has here. */
const PORT = 8080;
const HOSTS: Readonly<Record<FloodedService, number>> = {
  flooded: 1,
  steady: 2,
  held: 3,
  dead: 4,
};

/** Milliseconds of a client of `steady`. */
export interface Latency {
  readonly p50: number;
  readonly p99: number;
  readonly failures: number;
}

export class FloodedProxy implements AsyncDisposable {
  readonly proxy: Child;
  readonly #stack: AsyncDisposableStack;
  readonly #range: string;
  readonly #metricsUrl: string;
  readonly #client: Generator;

  private constructor(options: {
    stack: AsyncDisposableStack;
    range: string;
    metricsUrl: string;
    proxy: Child;
  }) {
    this.#stack = options.stack;
    this.#range = options.range;
    this.#metricsUrl = options.metricsUrl;
    this.proxy = options.proxy;
    this.#client = options.stack.use(new Generator());
  }

  static async start(engine: "splice" | "portable"): Promise<FloodedProxy> {
    await using stack = new AsyncDisposableStack();
    // Two: what is too much for one address is no matter for the other.
    const { addresses: [first, second] } = stack.use(
      await Endpoints.start(["127.0.0.1", "127.0.0.2"]),
    );
    const echo = stack.use(echoServer());
    const dead = stack.use(await blackHole());
    const range = loopbackRange();
    const folder = stack.use(await temporaryFolder());
    await folder.write(
      "services.yaml",
      manifest(
        ...both("flooded", range, first!),
        ...both("steady", range, second!),
        ...both("held", range, echo.address),
        ...both("dead", range, dead.address),
      ),
    );
    const metricsPort = freePort();
    const proxy = stack.use(startKubePortal([
      `--manifests=${folder.path}`,
      "--steer=none",
      `--engine=${engine}`,
      "--healthz-bind-address=",
      `--metrics-bind-address=127.0.0.1:${metricsPort}`,
    ]));
    await proxy.waitFor(" Ready ");
    const metricsUrl = `http://127.0.0.1:${metricsPort}/metrics`;
    return new FloodedProxy({ stack: stack.move(), range, metricsUrl, proxy });
  }

  address(service: FloodedService): { ip: string; port: number } {
    return { ip: `${this.#range}.0.${HOSTS[service]}`, port: PORT };
  }

  /** A flood, which ends with it: `test/support/flood.ts`. */
  flood(
    what: "connect" | "hold" | "datagrams",
    service: FloodedService,
    ...numbers: readonly number[]
  ): Child {
    const { ip, port } = this.address(service);
    const path = new URL("flood.ts", import.meta.url).pathname;
    const words = [what, ip, port, ...numbers].map(String);
    const args = ["run", "--quiet", "-A", path, ...words];
    return startTied([Deno.execPath(), ...args]);
  }

  /**
   * Of new connections to `steady`, one after another: dial to whole answer.
   *
   * @param pauseMs between them, on average
   */
  async connections(count: number, pauseMs = 0): Promise<Latency> {
    return latency(
      await this.#ask({ type: "one by one", concurrency: count, pauseMs }),
    );
  }

  /** Of requests on connections of `steady` that stay, 200 a second. */
  async requests(windowMs: number): Promise<Latency> {
    return latency(
      await this.#ask({
        type: "paced",
        perSecond: 200,
        concurrency: 8,
        windowMs,
      }),
    );
  }

  /** Answers that a client of `steady` has had for its datagrams. */
  async datagrams(windowMs: number): Promise<Counted> {
    const each = { bytes: 64, concurrency: 1, windowMs };
    return await this.#ask({ type: "datagrams", ...each });
  }

  #ask(
    question: Partial<Question> & Pick<Question, "type" | "concurrency">,
  ): Promise<Counted> {
    return this.#client.ask({
      to: [this.address("steady")],
      pids: [],
      helpers: [],
      warmUpMs: 50,
      windowMs: 0,
      ...question,
    } as Question);
  }

  /** The value of `kube_portal_NAME` for this Service, all its labels added up. */
  async metric(name: string, service: FloodedService): Promise<number> {
    const text = await (await fetch(this.#metricsUrl)).text();
    const lines = text.matchAll(
      new RegExp(`^kube_portal_${name}\\{([^}]*)\\} (\\S+)$`, "gm"),
    );
    return [...lines]
      .filter(([, labels = ""]) => labels.includes(`service_name="${service}"`))
      .reduce((sum, [, , value]) => sum + Number(value), 0);
  }

  get residentMiB(): number {
    const status = Deno.readTextFileSync(`/proc/${this.proxy.pid}/status`);
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1_024;
  }

  get logLines(): readonly string[] {
    return this.proxy.output.trim().split("\n");
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

function latency({ p50Us = NaN, p99Us = NaN, failures }: Counted): Latency {
  return { p50: p50Us / 1_000, p99: p99Us / 1_000, failures };
}

/** A Service with a TCP and a UDP port, and its slice. */
function both(
  name: FloodedService,
  range: string,
  endpoint: { readonly ip: string; readonly port: number },
): KubeObject[] {
  const named = (port: number) =>
    ["TCP", "UDP"].map((protocol) => ({
      name: protocol.toLowerCase(),
      protocol,
      port,
    }));
  const clusterIP = `${range}.0.${HOSTS[name]}`;
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name },
      spec: { clusterIP, ports: named(PORT) },
    },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: `${name}-1`,
        labels: { "kubernetes.io/service-name": name },
      },
      addressType: "IPv4",
      ports: named(endpoint.port),
      endpoints: [{
        addresses: [endpoint.ip],
        conditions: { ready: true },
      }],
    },
  ];
}
