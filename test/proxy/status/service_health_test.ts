/** Health check node ports, over real sockets on loopback. */
import assert from "node:assert/strict";
import {
  type ServiceState,
  serviceState,
} from "../../../proxy/desired_state.ts";
import {
  healthCheckAnswer,
  healthChecksOf,
  ServiceHealth,
} from "../../../proxy/status/service_health.ts";
import { freePort } from "../../support/kube_portal.ts";
import { collectLog } from "../../support/log_lines.ts";
import {
  type EndpointOverrides,
  service,
  type ServiceOverrides,
  slice,
} from "../../support/objects.ts";

const LOCAL = { ip: "10.1.0.1", nodeName: "n1" };
const IPS = ["127.0.0.1", "::1"];

function state(
  name: string,
  options: {
    readonly port: number;
    readonly endpoints?: readonly EndpointOverrides[];
    readonly overrides?: ServiceOverrides;
  },
): ServiceState {
  const { port, endpoints = [LOCAL], overrides = {} } = options;
  const given: ServiceOverrides = {
    type: "LoadBalancer",
    externalTrafficPolicy: "Local",
    healthCheckNodePort: port,
    ...overrides,
  };
  const byFamily = Map.groupBy(endpoints, ({ ip }) => ip.includes(":"));
  return serviceState(service(name, given), {
    slices: [...byFamily].map(([isV6, endpoints]) =>
      slice(`${name}-${isV6}`, { endpoints, service: name.split("/")[1] ?? "" })
    ),
    node: { name: "n1", zone: "" },
  });
}

function changes(...changed: ServiceState[]) {
  return { changed, removed: [] };
}

async function ask(
  port: number,
  { ip = "127.0.0.1", path = "/", method = "GET" } = {},
): Promise<{ status: number; text: string; headers: Headers } | "refused"> {
  using client = Deno.createHttpClient({});
  const host = ip.includes(":") ? `[${ip}]` : ip;
  try {
    const response = await fetch(`http://${host}:${port}${path}`, {
      method,
      client,
      headers: { "Accept-Encoding": "gzip" },
    });
    const { status, headers } = response;
    return { status, headers, text: await response.text() };
  } catch {
    return "refused";
  }
}

async function status(port: number, ip = "127.0.0.1") {
  const answer = await ask(port, { ip });
  return answer === "refused" ? answer : answer.status;
}

const BODY = `{
\t"service": {
\t\t"namespace": "default",
\t\t"name": "web"
\t},
\t"localEndpoints": 1,
\t"serviceProxyHealthy": true
}`;

Deno.test("[6.37, 6.39, 6.40, 6.41, 6.42, 6.51, 12.48] ServiceHealth answers every path and method as upstream does", async () => {
  await using health = new ServiceHealth(() => true);
  const port = freePort();
  health.note(changes(state("default/web", { port })));
  assert.equal(await health.sync(IPS), "done");
  for (
    const [path, method] of [["/", "GET"], ["/healthz?x", "POST"]] as const
  ) {
    const answer = await ask(port, { path, method });
    assert.ok(answer !== "refused");
    assert.equal(answer.status, 200);
    assert.equal(answer.text, BODY);
    const { headers } = answer;
    assert.equal(headers.get("Content-Type"), "application/json");
    assert.equal(headers.get("X-Content-Type-Options"), "nosniff");
    assert.equal(headers.get("X-Load-Balancing-Endpoint-Weight"), "1");
    assert.equal(headers.get("Content-Encoding"), null);
    assert.equal(headers.get("Vary"), null);
  }
});

Deno.test("[6.40, 6.43, 12.37] healthCheckAnswer() is 200 only with local endpoints and a healthy proxy", async () => {
  const check = {
    namespace: "default",
    name: "web",
    family: "IPv4",
    port: 1,
  } as const;
  const table: readonly [number, boolean, number][] = [
    [0, true, 503],
    [3, true, 200],
    [3, false, 503],
    [0, false, 503],
  ];
  for (const [localEndpoints, healthy, want] of table) {
    const answer = healthCheckAnswer({ ...check, localEndpoints }, healthy);
    assert.equal(answer.status, want);
    assert.deepEqual(await answer.json(), {
      service: { namespace: "default", name: "web" },
      localEndpoints,
      serviceProxyHealthy: healthy,
    });
  }
});

Deno.test("[5.61, 6.36, 6.43, 12.37] healthChecksOf() counts local ready endpoints, for type LoadBalancer with Local alone", () => {
  const count = (endpoints: readonly EndpointOverrides[]) =>
    healthChecksOf(state("default/web", { port: 30_000, endpoints }))
      .map(({ localEndpoints }) => localEndpoints);
  const terminating = { ready: false, serving: true, terminating: true };
  assert.deepEqual(count([]), [0]);
  assert.deepEqual(count([LOCAL, { ip: "10.1.0.2", nodeName: "n1" }]), [2]);
  assert.deepEqual(count([{ ...LOCAL, nodeName: "n2" }]), [0]);
  assert.deepEqual(count([{ ...LOCAL, ...terminating }]), [0]);
  for (
    const overrides of [
      { type: "NodePort" },
      { externalTrafficPolicy: "Cluster" },
      { healthCheckNodePort: 0 },
    ] as const
  ) {
    const given = state("default/web", { port: 30_000, overrides });
    assert.deepEqual(healthChecksOf(given), []);
  }
});

Deno.test("[6.37, 6.48] ServiceHealth counts each family for itself", async () => {
  await using health = new ServiceHealth(() => true);
  const port = freePort();
  const overrides = { clusterIPs: ["10.96.0.10", "fd00:96::10"] };
  const endpoints = [LOCAL, { ip: "fd00:1::1", nodeName: "n2" }];
  health.note(changes(state("default/web", { port, overrides, endpoints })));
  await health.sync(IPS);
  assert.equal(await status(port), 200);
  assert.equal(await status(port, "::1"), 503);
});

Deno.test("[6.44] ServiceHealth shows nothing before it is synced", async () => {
  await using health = new ServiceHealth(() => true);
  const port = freePort();
  health.note(changes(state("default/web", { port })));
  assert.equal(await status(port), "refused");
  await health.sync(IPS);
  health.note(changes(state("default/web", { port, endpoints: [] })));
  assert.equal(await status(port), 200);
  await health.sync(IPS);
  assert.equal(await status(port), 503);
});

Deno.test("[6.36, 6.45] ServiceHealth moves with the port and closes with the policy", async () => {
  await using health = new ServiceHealth(() => true);
  const [first, second] = [freePort(), freePort()];
  health.note(changes(state("default/web", { port: first })));
  await health.sync(IPS);
  health.note(changes(state("default/web", { port: second })));
  await health.sync(IPS);
  assert.equal(await status(first), "refused");
  assert.equal(await status(second), 200);
  const overrides = { externalTrafficPolicy: "Cluster" } as const;
  health.note(changes(state("default/web", { port: second, overrides })));
  await health.sync(IPS);
  assert.equal(await status(second), "refused");
  health.note(changes(state("default/web", { port: first })));
  await health.sync(IPS);
  assert.equal(await status(first), 200);
  health.note({ changed: [], removed: ["default/web"] });
  await health.sync(IPS);
  assert.equal(await status(first), "refused");
});

Deno.test("[6.45] an unchanged port keeps its connections", async () => {
  await using health = new ServiceHealth(() => true);
  const port = freePort();
  health.note(changes(state("default/web", { port })));
  await health.sync(IPS);
  using conn = await Deno.connect({ hostname: "127.0.0.1", port });
  const request = async () => {
    await conn.write(
      new TextEncoder().encode("GET / HTTP/1.1\r\nHost: x\r\n\r\n"),
    );
    const buffer = new Uint8Array(4_096);
    const length = await conn.read(buffer);
    return new TextDecoder().decode(buffer.subarray(0, length ?? 0));
  };
  assert.match(await request(), /^HTTP\/1\.1 200 /);
  health.note(changes(state("default/web", { port, endpoints: [] })));
  await health.sync([...IPS]);
  assert.match(await request(), /^HTTP\/1\.1 503 /);
});

Deno.test("[6.38] ServiceHealth listens on the addresses it is given, and follows them", async () => {
  await using health = new ServiceHealth(() => true);
  const port = freePort();
  health.note(changes(state("default/web", { port })));
  assert.equal(await health.sync([]), "done");
  assert.equal(await status(port), "refused");
  await health.sync(["127.0.0.1", "127.0.0.9"]);
  assert.equal(await status(port, "127.0.0.9"), 200);
  assert.equal(await status(port, "127.0.0.8"), "refused", "no wildcard");
  await health.sync(["127.0.0.1"]);
  assert.equal(await status(port, "127.0.0.9"), "refused");
  assert.equal(await status(port), 200);
});

Deno.test("[6.46] a health check port that cannot be had is said once, tried again, and stops nobody else", async () => {
  await using log = await collectLog();
  await using health = new ServiceHealth(() => true);
  const port = freePort();
  const other = freePort();
  const blocker = Deno.listen({ hostname: "127.0.0.1", port });
  health.note(changes(
    state("default/web", { port }),
    state("default/other", { port: other }),
  ));
  assert.equal(await health.sync(IPS), "again");
  assert.equal(await health.sync(IPS), "again");
  assert.equal(await status(other), 200);
  assert.deepEqual(
    health.failures.map(({ check, ip, reason }) => [check.name, ip, reason]),
    [[
      "web",
      "127.0.0.1",
      "the address and port are in use by another process",
    ]],
  );
  assert.equal(log.lines.length, 1);
  blocker.close();
  assert.equal(await health.sync(IPS), "done");
  assert.equal(await status(port), 200);
  assert.deepEqual(health.failures, []);
});

Deno.test("[6.47] a request that meets its end gets some answer", async () => {
  const health = new ServiceHealth(() => true);
  const port = freePort();
  health.note(changes(state("default/web", { port })));
  await health.sync(["127.0.0.1"]);
  const asking = Array.from({ length: 8 }, () => status(port));
  await health[Symbol.asyncDispose]();
  for (const got of await Promise.all(asking)) {
    assert.ok(got === 200 || got === "refused");
  }
});
