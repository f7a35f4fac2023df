/**
 * Every strategy × every way to a Service, with the whole program on a node in
 * a network namespace; then what a crash does to clients, and what cleanup
 * leaves. Writes the matrix to `.ci/out/steering-matrix.md`, and holds README's
 * to it.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import { outcomes, PATHS } from "../support/steering_paths.ts";
import {
  NODE_PORTS,
  PORTS,
  type SteeringStage,
  steeringStage,
  STRATEGIES,
  type StrategyName,
  WEB,
} from "../support/steering_stage.ts";

const YES = "yes";
const LOAD_PERIOD_MS = 40;
/** How long a back door is knocked at. */
const KNOCK_MS = 1_000;

/** Rows that are more than one dial. */
const NO_BACK_DOOR =
  "proxy port, straight from outside, a second node or a pod";
const ONE_AT_A_TIME = "a second proxy, and cleanup while one runs, are refused";
const FLUSH = "removed by hand: back within the sync period, and logged";
const CRASH = "kill -9 and restart under load: clients fail only in between";
const STOP = "SIGTERM and restart under load: the same";
const CLEANUP = "cleanup, twice: rules and routes of others byte for byte";
const SPECIAL_ROWS = [NO_BACK_DOOR, ONE_AT_A_TIME, FLUSH, CRASH, STOP, CLEANUP];

const strategies = Object.keys(STRATEGIES) as StrategyName[];
/** Row → strategy → cell. */
const matrix = new Map(
  [...PATHS.map(({ name }) => name), ...SPECIAL_ROWS].map((row) =>
    [row, new Map<StrategyName, string>()] as const
  ),
);

for (const strategy of strategies) {
  const { programs } = STRATEGIES[strategy];
  const needs = [
    netns,
    ...["nft", "iptables-nft", "iptables-legacy", "conntrack", ...programs]
      .map(program),
  ];
  testWith(needs, `matrix: ${strategy}`, async (t) => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, strategy);
    const note = (row: string, cell: string) =>
      matrix.get(row)?.set(strategy, cell);
    await loadForeignRules(stage.node);
    const before = await dump(stage.node);
    let proxy = await stage.start();
    assert.match(proxy.output, new RegExp(`Steering by ${stage.steer}:`));

    await t.step("paths", async () => {
      const results = await outcomes(stage, strategy);
      for (const [row, { got }] of results) note(row, got);
      const wrong = [...results].filter(([, { want, got }]) => want !== got);
      assert.deepEqual(wrong, []);
    });

    await t.step(NO_BACK_DOOR, async () => {
      note(NO_BACK_DOOR, await knock(stage, proxy));
    });

    await t.step(ONE_AT_A_TIME, async () => {
      await assertOneAtATime(stage, proxy);
      note(ONE_AT_A_TIME, YES);
    });

    await t.step(FLUSH, async () => {
      const installed = await dump(stage.node);
      await flush(stage.node, strategy);
      assert.notEqual(await dump(stage.node), installed);
      await proxy.waitFor("Steering was changed by somebody else; put back");
      const [reply] = await stage.pod2.dialAll([
        { protocol: "tcp", ip: WEB[0], port: PORTS.service, text: "hello" },
      ]);
      assert.match(reply ?? "", /^pod1 /);
      note(FLUSH, YES);
    });

    for (
      const [row, signal] of [[CRASH, "SIGKILL"], [STOP, "SIGTERM"]] as const
    ) {
      await t.step(row, async () => {
        const installed = await dump(stage.node);
        proxy = await restartUnderLoad(stage, proxy, signal);
        assert.equal(await dump(stage.node), installed);
        note(row, YES);
      });
    }

    await t.step(CLEANUP, async () => {
      proxy.kill("SIGKILL");
      await proxy.ended;
      assert.notEqual(await dump(stage.node), before);
      for (let i = 0; i < 2; i++) {
        assert.deepEqual(await run(stage, "cleanup"), {
          code: 0,
          output:
            "Nothing of kube-portal's steering is left on this machine.\n",
        });
        assert.equal(await dump(stage.node), before);
      }
      note(CLEANUP, YES);
    });
  });
}

Deno.test({
  name: "the matrix in README is the one that the strategies made",
  async fn() {
    const isComplete = [...matrix.values()].every((cells) =>
      cells.size === strategies.length
    );
    // Skipped or failed above, and said there.
    if (!isComplete) return;
    const text = table([
      [
        "",
        ...strategies.map((name) =>
          name.replace(/^\w+/, "`$&`").replace(",", "")
        ),
      ],
      ...[...matrix].map(([row, cells]) => [
        row,
        ...strategies.map((name) => cells.get(name) ?? ""),
      ]),
    ]);
    await Deno.mkdir(".ci/out", { recursive: true });
    await Deno.writeTextFile(".ci/out/steering-matrix.md", text);
    const readme = await Deno.readTextFile(
      new URL("../../README.md", import.meta.url),
    );
    assert.deepEqual(
      matrixIn(readme),
      cellsOf(text),
      `README shows another matrix than this run's:\n${text}`,
    );
  },
});

/** Ends a command of the program, and says what it said. */
async function run(
  stage: SteeringStage,
  ...args: readonly string[]
): Promise<{ code: number; output: string }> {
  await using child = stage.command(...args);
  const { code } = await child.status;
  await child.ended;
  // Without the log of what was removed.
  const output = child.output.replaceAll(/^\S+Z INFO .*\n/gm, "");
  return { code, output };
}

/** Nobody comes to a listener who did not dial a Service address. */
async function knock(stage: SteeringStage, proxy: Child): Promise<string> {
  const listeners = [
    ...proxy.output.matchAll(/ listen=(\S+):(\d+)$/gm),
  ].map(([, host = "", port]) => ({
    ip: host.replace(/^\[|\]$/g, ""),
    port: Number(port),
  }));
  if (stage.steer !== "redirect") {
    assert.deepEqual(listeners, []);
    return "there is none";
  }
  assert.ok(listeners.length >= 8, proxy.output);
  const { node, pod2, outside, node2 } = stage;
  const replies = await Promise.all(
    [outside, node2, pod2].map(async (client) => {
      for (const ip of new Set(listeners.map(({ ip }) => ip))) {
        const isV6 = ip.includes(":");
        const via = client === pod2
          ? [isV6 ? "fd00:244::1" : "10.244.0.1"]
          : [isV6 ? node.ipv6 : node.ipv4];
        await client.run(["ip", "route", "add", ip, "via", ...via]);
      }
      return await client.dialAll(listeners.flatMap(({ ip, port }) => {
        const own = ip.includes(":") ? node.ipv6 : node.ipv4;
        return [ip, own].flatMap((ip) =>
          (["tcp", "udp"] as const).map((protocol) => ({
            protocol,
            ip,
            port,
            text: "hello",
            timeoutMs: KNOCK_MS,
          }))
        );
      }));
    }),
  );
  const isOpen = (reply: string) =>
    !/^error: (Timeout|ConnectionRefused|.*Unreachable)$/.test(reply);
  assert.deepEqual(replies.flat().filter(isOpen), []);
  return "closed";
}

async function assertOneAtATime(
  stage: SteeringStage,
  proxy: Child,
): Promise<void> {
  const second = await run(
    stage,
    `--steer=${stage.steer}`,
    "--service-cidr=10.96.0.0/16",
    "--healthz-bind-address=",
    "--metrics-bind-address=",
    `--manifests=${stage.manifests}`,
  );
  const flagless = await run(stage, `--manifests=${stage.manifests}`);
  const cleanup = await run(stage, "cleanup");
  const holder = `kube-portal (pid ${proxy.pid})`;
  assert.deepEqual([second, flagless, cleanup], [
    {
      code: 1,
      output:
        `kube-portal: Cannot steer: ${holder} does so on this machine already; stop it first, or replace it with --take-over\n`,
    },
    {
      code: 1,
      output:
        `kube-portal: Cannot listen on 0.0.0.0:10256: it is in use by another process; choose another with --healthz-bind-address; ${holder} steers this machine: stop it first, or replace it with --take-over\n`,
    },
    {
      code: 1,
      output:
        `kube-portal: Cannot clean up: ${holder} is steering this machine; stop it first\n`,
    },
  ]);
}

/** Connections of pods, of the node and from outside, and flows of datagrams. */
async function restartUnderLoad(
  stage: SteeringStage,
  proxy: Child,
  signal: "SIGKILL" | "SIGTERM",
): Promise<Child> {
  await using stack = new AsyncDisposableStack();
  const { node, pod2, outside } = stage;
  const clusterIps = WEB.flatMap((ip) => [
    `tcp/${ip}/${PORTS.service}`,
    `udp/${ip}/${PORTS.service}`,
  ]);
  const nodePorts = [`tcp/${node.ipv4}/${NODE_PORTS.web}`];
  const loads = ([
    [pod2, clusterIps],
    [node, clusterIps],
    [outside, nodePorts],
  ] as const).map(([client, targets]) => ({
    targets,
    child: stack.use(client.startDeno("test/support/load.ts", [
      String(LOAD_PERIOD_MS),
      ...targets,
    ])),
  }));
  const answersAfter = (time: number) =>
    Promise.all(
      loads.flatMap(({ child, targets }) =>
        targets.map((target) => answerAfter(child, { target, time }))
      ),
    );
  await answersAfter(Date.now());
  const stoppedAt = Date.now();
  proxy.kill(signal);
  await proxy.ended;
  const next = await stage.start();
  const readyAt = Date.now();
  await answersAfter(readyAt);
  for (const { child } of loads) {
    const failures = linesOf(child.output).filter(({ reply }) =>
      !reply.startsWith("pod1 ")
    );
    const unjustified = failures.filter(({ start, end, reply }) =>
      end < stoppedAt || start > readyAt ||
      // A silent client is one whose packets went somewhere else.
      !/^(error: (ConnectionRefused|ConnectionReset|BrokenPipe|UnexpectedEof))?$/
        .test(reply)
    );
    assert.deepEqual(unjustified, []);
  }
  return next;
}

interface Line {
  readonly start: number;
  readonly end: number;
  readonly target: string;
  readonly reply: string;
}

function linesOf(output: string): Line[] {
  return [...output.matchAll(/^(\d+) (\d+) (\S+) (.*)$/gm)].map(
    ([, start, end, target = "", reply = ""]) => ({
      start: Number(start),
      end: Number(end),
      target,
      reply,
    }),
  );
}

/** Waits for an answer to something that began after a time. */
async function answerAfter(
  child: Child,
  { target, time }: { target: string; time: number },
): Promise<void> {
  const seen = () =>
    linesOf(child.output).some((line) =>
      line.target === target && line.start > time &&
      line.reply.startsWith("pod1 ")
    );
  const deadline = AbortSignal.timeout(15_000);
  while (!seen()) {
    if (deadline.aborted) {
      throw new Error(
        `No answer from ${target}:\n${child.output.slice(-2_000)}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Rules of others, in every program and table that ours are in. */
async function loadForeignRules(node: Namespace): Promise<void> {
  for (const kind of ["nft", "legacy"]) {
    for (const name of ["iptables", "ip6tables"]) {
      await node.run([`${name}-${kind}-restore`], { stdin: FOREIGN_IPTABLES });
    }
  }
  await node.run(["nft", "-f", "-"], { stdin: FOREIGN_NFT });
  await node.run([
    "ip",
    "route",
    "add",
    "local",
    "10.1.0.0/16",
    "dev",
    "lo",
  ]);
}

const FOREIGN_IPTABLES = ["raw", "mangle", "filter", "nat"].map((table) =>
  `*${table}
:FOREIGN - [0:0]
${
    table === "filter"
      ? ""
      : "-A PREROUTING -j FOREIGN\n"
  }-A OUTPUT -p tcp -m tcp --dport 9 -m comment --comment "of somebody else" -j FOREIGN
COMMIT
`
).join("");

const FOREIGN_NFT = `
add table inet foreign
add chain inet foreign prerouting { type nat hook prerouting priority dstnat ; }
add rule inet foreign prerouting tcp dport 7777 redirect to :8888
`;

/** What is ours, as far as the strategy needs it. */
async function flush(node: Namespace, strategy: StrategyName): Promise<void> {
  const [kind] = /nft$|legacy$/.exec(strategy) ?? [];
  if (strategy === "portal") {
    await node.run(["ip", "link", "del", "kube-portal0"]);
  } else if (strategy === "redirect, nft") {
    await node.run(["nft", "delete", "table", "ip", "kube-portal"]);
  } else if (kind !== undefined) {
    const chain = "KUBE-PORTALS-CONTAINER";
    await node.run([`iptables-${kind}`, "-t", "nat", "-F", chain]);
  }
  // The address that rules lead to is such a route too.
  await node.run(["ip", "route", "flush", "table", "local", "proto", "107"]);
}

/** All rules and routes, without what counts. */
async function dump(node: Namespace): Promise<string> {
  const parts = await Promise.all([
    node.run(["nft", "-s", "list", "ruleset"]),
    node.run(["iptables-legacy-save"]),
    node.run(["ip6tables-legacy-save"]),
    node.run(["ip", "-4", "route", "show", "table", "all"]),
    node.run(["ip", "-6", "route", "show", "table", "all"]),
    node.run(["ip", "addr", "show", "dev", "lo"]),
  ]);
  return parts.join("\n")
    .replaceAll(/ \[\d+:\d+\]$| (expires|valid_lft|preferred_lft) \d+sec/gm, "")
    // iptables-save writes the time; link-local addresses come when they like.
    .split("\n").filter((line) => !/^#| fe80::/.test(line)).join("\n");
}

function table(rows: readonly (readonly string[])[]): string {
  const [head = [], ...body] = rows;
  return [head, head.map(() => "---"), ...body]
    .map((cells) => `| ${cells.join(" | ")} |\n`).join("");
}

/** The cells of a table, however it is padded. */
function cellsOf(text: string): string[][] {
  return text.trim().split("\n").map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim().replace(/^-+$/, "-"))
  );
}

function matrixIn(readme: string): string[][] {
  const lines = readme.split("\n");
  const first = lines.findIndex((line) =>
    line.startsWith("|") && line.includes("`redirect` nft")
  );
  const rest = lines.slice(first);
  const length = rest.findIndex((line) => !line.startsWith("|"));
  return first === -1 ? [] : cellsOf(rest.slice(0, length).join("\n"));
}
