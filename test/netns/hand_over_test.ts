/**
 * One process takes over from another while clients go on: by every strategy,
 * with the whole program on a node in a network namespace.
 */
import assert from "node:assert/strict";
import { ffi } from "../support/ffi.ts";
import { program, testWith } from "../support/needs.ts";
import { netns } from "../support/netns.ts";
import { letQueuesPassOn, queues } from "../support/queues.ts";
import { SteadyLoad } from "../support/steady_load.ts";
import {
  NODE_PORTS,
  PORTS,
  type SteeringStage,
  steeringStage,
  STRATEGIES,
  type StrategyName,
  WEB,
} from "../support/steering_stage.ts";

/** New connections a second, from a pod and from outside together. */
const RATE = { pod: 400, outside: 100, admin: 40, datagrams: 100 };
const HEALTH_PORT = 10256;
const METRICS_PORT = 10249;

const CASES: readonly [StrategyName, ...string[]][] = [
  ["portal"],
  ["route"],
  ["redirect, iptables-nft"],
  ["redirect, nft"],
  // It has no descriptors of its own, and gets other ports,
  ["redirect, iptables-nft", "--engine=portable"],
];

/** or listens beside the old one: in the portal, or on the node. */
const SHARING_CASES: typeof CASES = [
  ["portal", "--engine=portable"],
  ["route", "--engine=portable"],
];

async function loadOn(
  { node, pod2, outside }: SteeringStage,
): Promise<SteadyLoad> {
  const load = new SteadyLoad();
  await load.begin(pod2, WEB[0], PORTS.service, RATE.pod);
  await load.begin(outside, node.ipv4, NODE_PORTS.web, RATE.outside);
  await load.begin(node, "127.0.0.1", HEALTH_PORT, RATE.admin, "/healthz");
  await load.begin(node, "127.0.0.1", METRICS_PORT, RATE.admin, "/proxyMode");
  return load;
}

for (const each of [...CASES, ...SHARING_CASES]) {
  const [strategy, ...flags] = each;
  const isSharing = SHARING_CASES.includes(each);
  testWith(
    [
      netns,
      ffi,
      ...STRATEGIES[strategy].programs.map(program),
      ...isSharing ? [queues] : [],
    ],
    `a new process takes over by ${
      [strategy, ...flags].join(" ")
    }: none of 500 new connections a second fails, and open ones go on`,
    async () => {
      await using stack = new AsyncDisposableStack();
      const stage = await steeringStage(stack, strategy);
      if (isSharing) await letQueuesPassOn(stage.node);
      const start = () =>
        stage.start("--take-over", "--drain-timeout=20s", ...flags);
      let old = await start();
      await using load = await loadOn(stage);
      const datagrams = stack.use(
        stage.pod2.startDeno(
          "test/support/steady_datagrams.ts",
          [WEB[0], PORTS.service, RATE.datagrams].map(String),
        ),
      );
      await datagrams.waitFor("heard");
      // Who took over hands over in its turn; once is enough to see that.
      const rounds = each === CASES[0] ? 2 : 1;
      for (let round = 0; round < rounds; round++) {
        await using held = stage.pod2.startDeno(
          "test/support/held_client.ts",
          [WEB[0], String(PORTS.service)],
        );
        await held.waitFor("held");
        const next = await start();
        assert.match(next.output, /Took over/);
        await old.waitFor("Stopping at the take-over");
        held.kill("SIGTERM");
        await held.ended;
        assert.match(held.output, /^\d+ came back$/m);
        assert.equal((await old.status).code, 0);
        await old.ended;
        old = next;
      }
      await load.end();
      datagrams.kill("SIGTERM");
      await datagrams.ended;
      const [, missing] = /, (\d+) missing$/m.exec(datagrams.output) ?? [];
      // A datagram may get lost anywhere; those of a gap would be many.
      if (!isSharing) assert.ok(Number(missing) <= 2, datagrams.output);
    },
  );
}

testWith(
  [netns, ffi],
  "a new process in another container adopts the portal of the old one",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    // Folders of its own, as in a pod: the name of the namespace is not there.
    const container = [
      ...["unshare", "--mount", "--propagation=private", "sh", "-c"],
      'mkdir -p /run/netns; mount -t tmpfs tmpfs /run/netns; exec "$@"',
      "sh",
    ];
    const start = async () => {
      const { commandWith, flags } = stage;
      const child = stack.use(commandWith(container, ...flags, "--take-over"));
      await child.waitFor(" Ready ");
      return child;
    };
    const old = await start();
    await using load = await loadOn(stage);
    const portal = async () =>
      (await stage.node.run(["ip", "link", "show", "kube-portal0"]))
        .split(":")[0];
    const before = await portal();
    const next = await start();
    assert.match(next.output, /Took over/);
    assert.equal((await old.status).code, 0);
    // The folder of the old one is gone with it; the namespace is not.
    assert.equal(await portal(), before);
    const last = await start();
    assert.match(last.output, /Took over/);
    assert.equal(await portal(), before);
    await load.end();
  },
);
