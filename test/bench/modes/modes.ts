/**
 * Every mode of this program that runs here, at several numbers of Services:
 * what a connection costs, what goes through, and how long a change takes to
 * show. In: modes and sizes. Out: a series for each mode, size and metric.
 *
 * At each size all proxies run at the same time, on nodes of their own, and are
 * measured in turn, as is a connection through a node that only routes.
 *
 * @module
 */
import type { Child } from "../../support/child.ts";
import { manifest } from "../../support/kube_objects.ts";
import { freePort } from "../../support/kube_portal.ts";
import { temporaryFolder } from "../../support/temporary_folder.ts";
import { Asked, Endpoints, Generator } from "../load/client.ts";
import type { Counted } from "../load/protocol.ts";
import type { Address } from "../load/sys.ts";
import type { Load } from "../measures.ts";
import { waitForQuiet } from "../quiet.ts";
import { script } from "../subjects.ts";
import type { Change, Effect } from "./changes.ts";
import {
  DIRECT,
  ENDPOINT_IPS,
  type ModesNetwork,
  modesNetwork,
  newEndpointIp,
  SERVICE_CIDR,
} from "./network.ts";
import type { ModeSeries } from "./series.ts";
import { oneSeries } from "./series.ts";
import {
  changedSlice,
  newService,
  newServiceAddress,
  nodeObject,
  serviceAddress,
  servicesTo,
} from "./services.ts";
import { startMode } from "./subjects.ts";

/** Connections one by one in a round. */
const CONNECTIONS = 500;
/** A mode that takes so long for its changes has had enough of them. */
const CHANGES_MS = 20_000;
const CHANGE_TIMEOUT_MS = 15_000;
const API_TIMEOUT_MS = 60_000;
const WARM_UP_MS = 200;

export interface ModesOptions {
  readonly modes: readonly string[];
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly windowMs: number;
  /** Of each kind, for each mode, after one that nobody sees. */
  readonly changes: number;
  /** No size is begun after so long. */
  readonly budgetMs: number;
  readonly progress: (text: string) => void;
}

/** What was measured, and what was not. */
export interface ModesResult {
  readonly series: readonly ModeSeries[];
  /** For people: `10,000 Services, for time`. */
  readonly leftOut: readonly string[];
}

/** What stays from one size to the next. */
interface Stage {
  readonly options: ModesOptions;
  readonly network: ModesNetwork;
  readonly endpoints: Endpoints;
  readonly generator: Generator;
  readonly changer: Asked<Change, Effect>;
  /** Where the endpoints of changes listen. */
  readonly newPort: number;
}

/** Measures all modes at every size. */
export async function compareModes(
  options: ModesOptions,
): Promise<ModesResult> {
  const { sizes, budgetMs, modes } = options;
  const startedAt = performance.now();
  const series: ModeSeries[] = [];
  const leftOut: string[] = [];
  for (const services of sizes) {
    if (performance.now() - startedAt > budgetMs) {
      leftOut.push(`${services.toLocaleString("en")} Services, for time`);
      continue;
    }
    await using stack = new AsyncDisposableStack();
    // New namespaces for each size: no rule and no connection is left.
    const stage = await setStage(options, stack, modes);
    series.push(...await measureSize(stage, services));
  }
  return { series, leftOut };
}

async function setStage(
  options: ModesOptions,
  stack: AsyncDisposableStack,
  modes: readonly string[],
): Promise<Stage> {
  const network = stack.use(await modesNetwork(modes));
  const { client, endpoint } = network;
  const endpoints = stack.use(await Endpoints.start(ENDPOINT_IPS, endpoint));
  const newPort = freePort();
  const whoami = stack.use(
    endpoint.start(script("modes/whoami.ts", String(newPort))),
  );
  await whoami.waitFor("Ready");
  const generator = stack.use(new Generator(client));
  const changer = stack.use(
    new Asked<Change, Effect>(script("modes/changes.ts"), client),
  );
  return { options, network, endpoints, generator, changer, newPort };
}

/** One mode, or none, at one size. */
interface Measured {
  readonly mode: string;
  readonly to: readonly Address[];
  /** Values by metric, in order of the rounds. */
  readonly values: Map<string, number[]>;
  readonly child?: Child;
}

async function measureSize(
  stage: Stage,
  services: number,
): Promise<ModeSeries[]> {
  const { modes, progress } = stage.options;
  await using stack = new AsyncDisposableStack();
  const size = `${services.toLocaleString("en")} Services`;
  progress(`${size}: API server`);
  const server = await startApi(stage, services, stack);
  const all: Measured[] = [
    { mode: DIRECT, to: stage.endpoints.addresses, values: new Map() },
  ];
  const to = Array.from({ length: services }, (_, n) => serviceAddress(n));
  for (const mode of modes) {
    progress(`${size}: ${mode} starts`);
    await waitForQuiet();
    const { child, readyMs } = await startMode(mode, stage.network, server);
    stack.use(child);
    const values = new Map([["start", [readyMs]]]);
    all.push({ mode, to, values, child });
  }
  await measureRounds(stage, size, all);
  let used = 0;
  for (const one of all) {
    if (one.child === undefined) continue;
    progress(`${size}: ${one.mode}, changes`);
    used += await measureChanges(stage, one, {
      server,
      services,
      firstSample: used,
      others: all.flatMap(({ child }) =>
        child === undefined || child === one.child ? [] : [child]
      ),
    });
  }
  return all.flatMap(({ mode, values }) =>
    [...values].map(([metric, values]) =>
      oneSeries({ mode, services, metric, values })
    )
  );
}

/** An API server with that many Services, and the nodes. */
async function startApi(
  { network, endpoints, options }: Stage,
  services: number,
  stack: AsyncDisposableStack,
): Promise<string> {
  const folder = stack.use(await temporaryFolder());
  await folder.write(
    "objects.yaml",
    manifest(
      ...options.modes.map((mode) => nodeObject(mode, network.node(mode).ipv4)),
      ...servicesTo(endpoints.addresses, services),
    ),
  );
  const { ipv4 } = network.api;
  const port = String(freePort());
  const api = stack.use(network.api.start(
    script("modes/api_server.ts", ipv4, port, SERVICE_CIDR, folder.path),
  ));
  await api.waitFor("Ready", API_TIMEOUT_MS);
  return `http://${ipv4}:${port}`;
}

/** What a round asks, and what it says of it. */
const QUESTIONS: readonly {
  readonly load: Load;
  readonly metrics: Readonly<Record<string, (counted: Counted) => number>>;
}[] = [
  {
    load: { type: "one by one", concurrency: CONNECTIONS },
    metrics: {
      "connection, p50": ({ p50Us }) => p50Us!,
      "connection, p99": ({ p99Us }) => p99Us!,
    },
  },
  {
    load: { type: "stream", concurrency: 1 },
    metrics: { "one stream": ({ count, seconds }) => count / 1e9 / seconds },
  },
  {
    load: { type: "connect", concurrency: 32 },
    metrics: { "new connections": ({ count, seconds }) => count / seconds },
  },
];

/** Rounds in which each is measured once; the first is only to warm up. */
async function measureRounds(
  { options, network, generator, endpoints }: Stage,
  size: string,
  all: readonly Measured[],
): Promise<void> {
  const { rounds, windowMs, progress } = options;
  for (let round = -1; round < rounds; round++) {
    progress(`${size}: round ${round + 1} of ${rounds}`);
    for (let n = 0; n < all.length; n++) {
      // Nobody is always the first, or always after the same.
      const { mode, to, values } = all[(n + round + 1) % all.length]!;
      await network.lead(mode);
      for (const { load, metrics } of QUESTIONS) {
        await waitForQuiet();
        const counted = await generator.ask({
          ...load,
          to: pick(to),
          pids: [],
          helpers: [endpoints.pid],
          warmUpMs: WARM_UP_MS,
          windowMs,
        });
        if (counted.failures > 0) {
          throw new Error(`${mode}: ${counted.failures} connections failed`);
        }
        if (round < 0) continue;
        for (const [metric, of] of Object.entries(metrics)) {
          values.set(metric, [...values.get(metric) ?? [], of(counted)]);
        }
      }
    }
  }
}

/** As many as `CONNECTIONS` of them at random. */
function pick(addresses: readonly Address[]): Address[] {
  return Array.from(
    { length: CONNECTIONS },
    () => addresses[Math.floor(Math.random() * addresses.length)]!,
  );
}

/**
 * Changes one after another, each on an endpoint that none has had. Other
 * proxies, who hear of them too, stand still meanwhile.
 *
 * @returns how many addresses of new endpoints were used
 */
async function measureChanges(
  { network, changer, newPort, options }: Stage,
  { mode, values }: Measured,
  { server, services, firstSample, others }: {
    readonly server: string;
    readonly services: number;
    readonly firstSample: number;
    readonly others: readonly Child[];
  },
): Promise<number> {
  await network.lead(mode);
  for (const other of others) other.kill("SIGSTOP");
  let used = firstSample;
  const once = async (metric: string, isCounted: boolean) => {
    const n = used++;
    const endpoint = { ip: newEndpointIp(n), port: newPort };
    const isNew = metric === "new Service";
    const service = n % services;
    const { effectMs } = await changer.ask({
      server,
      verb: isNew ? "create" : "replace",
      objects: isNew
        ? newService(n, endpoint)
        : [changedSlice(service, endpoint)],
      ...isNew ? newServiceAddress(n) : serviceAddress(service),
      want: endpoint.ip,
      timeoutMs: CHANGE_TIMEOUT_MS,
    });
    if (effectMs === undefined) {
      throw new Error(`${mode}: a change did not show within 15 s (${metric})`);
    }
    if (!isCounted) return;
    values.set(metric, [...values.get(metric) ?? [], effectMs]);
  };
  const until = performance.now() + CHANGES_MS;
  for (let sample = 0; sample <= options.changes; sample++) {
    // One of each kind is counted, however long it takes.
    if (sample > 1 && performance.now() > until) break;
    await once("changed endpoint", sample > 0);
    await once("new Service", sample > 0);
  }
  for (const other of others) other.kill("SIGCONT");
  return used - firstSample;
}
