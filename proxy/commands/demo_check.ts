/**
 * `demo --once`: does what a curious user would do by hand, and says whether
 * what came back was right. Everything goes through real sockets.
 *
 * @module
 */
import type { ApiClient } from "../../watch/mod.ts";
import type { PortBinding } from "../steering.ts";
import {
  SAMPLE_SERVICES,
  type SamplePod,
  sliceObjects,
  SLICES_PATH,
} from "./demo_samples.ts";
import type { StagePort } from "./mode_stage.ts";
import type { RunningProxy } from "./running_proxy.ts";
import { print, table } from "./terminal.ts";

/** Requests sent to each Service port: divisible by its numbers of endpoints. */
const REQUESTS = 30;
const REQUEST_TIMEOUT_MS = 5_000;

/** Far more than a change needs to arrive. */
const CHANGE_TIMEOUT_MS = 5_000;
/** How often it is looked whether a change has arrived. */
const LOOK_EVERY_MS = 5;

export interface DemoCluster {
  readonly proxy: RunningProxy;
  readonly client: ApiClient;
  /** Service name → its pods. */
  readonly pods: Map<string, readonly SamplePod[]>;
}

/**
 * The whole exercise: every Service shares its connections evenly, one without
 * endpoints refuses, and an endpoint taken away through the API gets nothing
 * more. Prints as it goes.
 *
 * @returns one sentence for each thing that was wrong
 */
export async function exercise(cluster: DemoCluster): Promise<string[]> {
  const problems: string[] = [];
  const check = async (heading: string, only: (name: string) => boolean) => {
    print(`\n${heading}\n\n`);
    const result = await checkDistribution(
      expectations(cluster).filter(({ binding }) => only(binding.address.name)),
    );
    print(result.report);
    problems.push(...result.problems);
  };

  await check(`${REQUESTS} requests to every Service port:`, () => true);
  problems.push(...await checkRefusals(cluster));

  const gone = removableService(cluster);
  await removeLastPod(cluster, gone);
  await check(
    `${gone.name} without its last endpoint:`,
    (name) => name.includes(gone.name),
  );
  return problems;
}

function removableService({ pods }: DemoCluster) {
  const service = SAMPLE_SERVICES.findLast(({ name }) =>
    (pods.get(name)?.length ?? 0) > 1
  );
  if (service === undefined) throw new Error("No sample Service has two pods");
  return service;
}

/** Replaces the Service's slices with those of all pods but the last. */
async function removeLastPod(
  cluster: DemoCluster,
  service: typeof SAMPLE_SERVICES[number],
): Promise<void> {
  const before = cluster.pods.get(service.name) ?? [];
  const kept = before.slice(0, -1);
  const wanted = new Map(
    sliceObjects(service, kept).map((slice) => [nameOf(slice), slice]),
  );
  for (const old of sliceObjects(service, before)) {
    // A JSON merge patch replaces a list as a whole.
    const endpoints = wanted.get(nameOf(old))?.["endpoints"] ?? [];
    const response = await cluster.client.request(
      `${SLICES_PATH}/${nameOf(old)}`,
      { method: "PATCH", body: { endpoints } },
    );
    await response.body?.cancel();
  }
  cluster.pods.set(service.name, kept);
  const deadline = Date.now() + CHANGE_TIMEOUT_MS;
  while (
    portsOf(cluster, service.name).some((port) =>
      port.state.cluster.length !== kept.length
    ) && Date.now() < deadline
  ) await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
}

function nameOf(object: Record<string, unknown>): string {
  return String((object["metadata"] as { name: unknown }).name);
}

function portsOf({ proxy }: DemoCluster, service: string): StagePort[] {
  return [...proxy.ports()].filter((port) =>
    port.state.servicePort.name === service
  );
}

/** What should answer, from what the demo started, not from what the proxy thinks. */
function expectations(cluster: DemoCluster): Expectation[] {
  return SAMPLE_SERVICES.flatMap(({ name }) =>
    portsOf(cluster, name).flatMap((port) =>
      [...port.bindings].map((binding) => ({
        binding,
        endpoints: (cluster.pods.get(name) ?? []).map((pod) =>
          `${pod.name}:${pod.ports[port.state.servicePort.port]}`
        ),
      }))
    )
  );
}

async function checkRefusals(cluster: DemoCluster): Promise<string[]> {
  const problems: string[] = [];
  for (const service of SAMPLE_SERVICES) {
    if ((cluster.pods.get(service.name) ?? []).length > 0) continue;
    for (const port of Object.values(service.ports)) {
      const address = `${service.clusterIP}:${port}`;
      if (await isRefused(service.clusterIP, port)) {
        print(`\n${service.name} has no endpoint: ${address} is refused.\n`);
      } else problems.push(`${service.name}: ${address} should be refused`);
    }
  }
  return problems;
}

/** A Service port, and the endpoints that should share its connections. */
interface Expectation {
  readonly binding: PortBinding;
  /** `name:port` of each endpoint: the first word of its answer. */
  readonly endpoints: readonly string[];
}

interface CheckResult {
  /** A table, ready to print. */
  readonly report: string;
  /** One sentence for each thing that was not right. */
  readonly problems: readonly string[];
}

/**
 * Sends requests to every Service port, each on a connection of its own, and
 * counts who answers. Round robin over n endpoints gives each exactly its
 * share.
 */
async function checkDistribution(
  expectations: readonly Expectation[],
): Promise<CheckResult> {
  const rows: string[][] = [];
  const problems: string[] = [];
  for (const { binding, endpoints } of expectations) {
    const { name, ip, port } = binding.address;
    const counts = await countAnswers(binding);
    const share = REQUESTS / endpoints.length;
    const names = [...new Set([...endpoints, ...counts.keys()])].sort();
    for (const [index, endpoint] of names.entries()) {
      const got = counts.get(endpoint) ?? 0;
      const want = endpoints.includes(endpoint) ? share : 0;
      if (got !== want) {
        problems.push(
          `${name}: ${endpoint} answered ${got} of ${REQUESTS} requests, want ${want}`,
        );
      }
      rows.push([
        index === 0 ? name : "",
        index === 0 ? `${ip}:${port}` : "",
        endpoint,
        String(got).padStart(7),
      ]);
    }
  }
  return {
    report: table(["SERVICE PORT", "ADDRESS", "ANSWERED BY", "REQUESTS"], rows),
    problems,
  };
}

async function countAnswers(
  binding: PortBinding,
): Promise<Map<string, number>> {
  const counts = new Map<string, number>();
  for (let request = 0; request < REQUESTS; request++) {
    const answer = await firstWord(binding).catch((error) =>
      `(${error instanceof Error ? error.message : error})`
    );
    counts.set(answer, (counts.get(answer) ?? 0) + 1);
  }
  return counts;
}

async function firstWord({ listen }: PortBinding): Promise<string> {
  // A client of its own for each request: none shares a connection.
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const response = await fetch(`http://${listen.ip}:${listen.port}/`, {
    client,
    signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
  });
  const text = await response.text();
  return text.split(" ")[0] ?? "";
}

/** A Service without endpoints must refuse: no accept-then-close. */
async function isRefused(ip: string, port: number): Promise<boolean> {
  try {
    const connection = await Deno.connect({ hostname: ip, port });
    connection.close();
    return false;
  } catch (error) {
    return error instanceof Deno.errors.ConnectionRefused;
  }
}
