/**
 * The demo as a newcomer runs it. Where the machine allows it, in a network
 * namespace: its addresses and ports are fixed, and somebody may be looking at
 * a demo of their own.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import {
  freePort,
  type KubePortalOptions,
  runKubePortal,
  startKubePortal,
} from "../support/kube_portal.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { testWith } from "../support/needs.ts";
import { eventually } from "../support/loopback.ts";
import { print } from "../../proxy/commands/terminal.ts";

const READY_WITHIN_MS = 30_000;

class Place implements AsyncDisposable {
  readonly namespace: Namespace | undefined;
  readonly #network: Network | undefined;

  constructor(network: Network | undefined) {
    this.#network = network;
    this.namespace = network?.node;
  }

  static async find(): Promise<Place> {
    const network = netns() === undefined
      ? await Network.create({ pods: 0 })
      : undefined;
    return new Place(network);
  }

  demo(...args: string[]): Child {
    return startKubePortal(args, { task: "demo", namespace: this.namespace });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#network?.[Symbol.asyncDispose]();
  }
}

Deno.test("demo --once shows every Service shared evenly and ends with 0", async () => {
  await using place = await Place.find();
  await using demo = place.demo("--once");
  const { code } = await demo.status;
  await demo.ended;
  const { output } = demo;
  assert.equal(code, 0, output);
  assert.match(output, /^SERVICE PORT +CLUSTER IP +LISTENS ON +ENDPOINTS\n/);
  for (
    const endpoint of [
      ...[1, 2, 3].map((n) => `services-prod-6059-oms-api-${n}:26880`),
      ...[8081, 5000, 5500].flatMap((port) =>
        [1, 2, 3].map((n) => `addon-nexus-${n}:${port}`)
      ),
    ]
  ) assert.match(output, new RegExp(`^.* ${endpoint} +10$`, "m"));
  assert.match(output, /no-endpoints-yet has no endpoint: \S+ is refused/);
  const [, after = ""] = output.split("without its last endpoint");
  assert.deepEqual(
    [...after.matchAll(/ (addon-nexus-\d:\d+) +(\d+)$/gm)].map((match) =>
      `${match[1]} ${match[2]}`
    ).sort(),
    [5000, 5500, 8081].flatMap((port) =>
      [1, 2].map((n) => `addon-nexus-${n}:${port} 15`)
    ).sort(),
  );
  assert.match(output, /\nAll of it was right\.\n$/);
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  Deno.test(`demo serves until ${signal}, then ends with 0 and leaves nothing`, async () => {
    await using place = await Place.find();
    const startedAt = performance.now();
    await using demo = place.demo();
    await demo.waitFor("Ctrl-C ends it.", READY_WITHIN_MS);
    const readyMs = performance.now() - startedAt;
    print(`demo: ready after ${readyMs.toFixed(0)} ms\n`);
    assert.match(demo.output, /^ {2}curl http:\/\/127\.96\.20\.10:8081\/ /m);
    assert.match(
      demo.output,
      /^ {2}kubectl --server http:\/\/127\.0\.0\.1:8001 get /m,
    );
    if (place.namespace !== undefined) {
      const { namespace } = place;
      const health = await namespace.run([
        "curl",
        "-sS",
        "http://127.0.0.1:10256/healthz",
      ]);
      assert.match(health, /"nodeEligible":true/);
      const answer = await namespace.run([
        "curl",
        "-sS",
        "http://127.96.20.10:8081/",
      ]);
      const metrics = await namespace.run([
        "curl",
        "-sS",
        "http://127.0.0.1:10249/metrics",
      ]);
      assert.match(
        metrics,
        /^kube_portal_connections_total\{.*8081.*\} 1$/m,
      );
      assert.match(answer, /^addon-nexus-[123]:8081 on 127\.97\.20\./);
    }
    const said = demo.output;
    demo.kill(signal);
    const { code } = await demo.status;
    await demo.ended;
    assert.equal(code, 0, demo.output);
    assert.equal(demo.output, said, "nothing to say about an end asked for");
    if (place.namespace !== undefined) {
      const open = await place.namespace.run(["ss", "-Hltun"]);
      assert.equal(open, "");
    }
  });
}

Deno.test("demo says in one line which port is in use, and ends with 1", async (t) => {
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const where = `127.0.0.1:${taken.addr.port}`;
  const demo: KubePortalOptions = { task: "demo" };
  await t.step("the API server's", async () => {
    const ended = await runKubePortal([
      `--apiserver-port=${taken.addr.port}`,
    ], demo);
    assert.deepEqual(ended, {
      code: 1,
      stdout: "",
      stderr: `kube-portal: Cannot listen on ${where}: it is in use by ` +
        `another process; choose another with --apiserver-port\n`,
    });
  });
  await t.step("the metrics port", async () => {
    const ended = await runKubePortal([
      `--apiserver-port=${freePort()}`,
      `--healthz-bind-address=`,
      `--metrics-bind-address=${where}`,
    ], demo);
    assert.deepEqual(ended, {
      code: 1,
      stdout: "",
      stderr: `kube-portal: Cannot listen on ${where}: it is in use by ` +
        `another process; choose another with --metrics-bind-address\n`,
    });
  });
  await t.step("the health port", async () => {
    const ended = await runKubePortal([
      `--apiserver-port=${freePort()}`,
      `--healthz-bind-address=${where}`,
    ], demo);
    assert.deepEqual(ended, {
      code: 1,
      stdout: "",
      stderr: `kube-portal: Cannot listen on ${where}: it is in use by ` +
        `another process; choose another with --healthz-bind-address\n`,
    });
  });
});

testWith(
  [netns],
  "demo says in one line that a sample's address is in use",
  async () => {
    await using place = await Place.find();
    assert.ok(place.namespace !== undefined);
    await using _other = await place.namespace.endpoint([
      "tcp/127.97.20.2/5000",
    ]);
    await using demo = place.demo();
    const { code } = await demo.status;
    await demo.ended;
    assert.equal(code, 1);
    assert.match(
      demo.output,
      /^kube-portal: Cannot listen on 127\.97\.20\.2:5000: .*in use.*\n$/,
    );
  },
);

Deno.test("demo tells the owner of a Service what is wrong, by an Event", async () => {
  await using place = await Place.find();
  if (place.namespace === undefined) return;
  const { namespace } = place;
  await using demo = place.demo();
  await demo.waitFor("Ctrl-C ends it.", READY_WITHIN_MS);
  const server = "http://127.0.0.1:8001/api/v1/namespaces/default";
  const annotations = { "kube-portal.dev/balancer": "fastest" };
  await namespace.run([
    "curl",
    "-sSf",
    "-XPATCH",
    "-HContent-Type: application/merge-patch+json",
    "-d",
    JSON.stringify({ metadata: { annotations } }),
    `${server}/services/addon-nexus`,
  ]);
  await eventually(
    "an Event",
    () => namespace.run(["curl", "-sSf", `${server}/events`]),
    (events) => /"reason":\s*"Unsupported"/.test(events),
  );
});
