/**
 * What a proxy opens to others: every listening socket of its process is one
 * that README names, and the pages that are for the node alone answer nobody
 * else.
 */
import assert from "node:assert/strict";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import {
  BALANCED,
  HELD,
  type SteeringStage,
  steeringStage,
  type StrategyName,
} from "../support/steering_stage.ts";

const SOME_STRATEGIES = [
  "portal",
  "route",
  "redirect, nft",
] as const satisfies readonly StrategyName[];

/** Listening sockets of a process on the node: `0.0.0.0:10256`, sorted. */
async function listeningSockets(
  node: Namespace,
  pid: number,
): Promise<string[]> {
  const lines = (await node.run(["ss", "-Hnltup"])).trim().split("\n");
  return lines.filter((line) => line.includes(`pid=${pid},`))
    .map((line) => line.trim().split(/\s+/)[4] ?? "")
    .sort();
}

/** What README says that a proxy listens on, on the node. */
function isDocumented(socket: string, stage: SteeringStage): boolean {
  const at = socket.lastIndexOf(":");
  const ip = socket.slice(0, at).replace(/^\[|\]$/g, "").replace(/%.*/, "");
  const port = Number(socket.slice(at + 1));
  // Wildcards: the health port and nothing else.
  if (/^(0\.0\.0\.0|\*|::)$/.test(ip)) return port === 10_256;
  if (port === 10_249) return ip === "127.0.0.1";
  if (port >= 30_000 && port <= 32_767) return isNodeAddress(ip, stage);
  const onlyTheNodeHas = [...HELD, ...BALANCED] as readonly string[];
  switch (stage.steer) {
    // Service addresses are in the namespace, which the node does not show.
    case "portal":
      return port === 80 && onlyTheNodeHas.includes(ip);
    case "route":
      return port === 80 &&
        (/^(10\.96\.|fd00:96::)/.test(ip) || onlyTheNodeHas.includes(ip));
    case "redirect":
      return port >= 20_000 && port <= 29_999 &&
        /^(169\.254\.107\.1$|fd6b:)/.test(ip);
  }
}

function isNodeAddress(ip: string, { node }: SteeringStage): boolean {
  return [node.ipv4, node.ipv6, "127.0.0.1", "::1", ...HELD, ...BALANCED]
    .includes(ip) || /^(10\.244\.0\.1|fd00:244::1|fe80:.*)$/.test(ip);
}

/** `200`, or `000` where nobody answers. */
async function status(
  from: Namespace,
  url: string,
  ...headers: readonly string[]
): Promise<string> {
  const args = headers.map((header) => `-H${header}`);
  // As it is written, dots and all.
  args.push("--path-as-is");
  try {
    const options = ["-sS", "-o/dev/null", "-w%{http_code}", "-m5"];
    return await from.run(["curl", ...options, ...args, url]);
  } catch {
    return "000";
  }
}

for (const strategy of SOME_STRATEGIES) {
  testWith(
    [netns, program("nft"), program("ss"), program("curl")],
    `${strategy}: every socket that a proxy listens on is documented`,
    async (t) => {
      await using stack = new AsyncDisposableStack();
      const stage = await steeringStage(stack, strategy);
      const { node, outside, pod2 } = stage;
      const proxy = await stage.start("--healthz-bind-address=0.0.0.0:10256");
      await t.step("nothing else is open", async () => {
        const sockets = await listeningSockets(node, proxy.pid);
        assert.ok(sockets.length > 4, `too few to be true: ${sockets}`);
        assert.deepEqual(
          sockets.filter((socket) => !isDocumented(socket, stage)),
          [],
        );
      });
      await t.step(
        "health is for everybody, metrics for the node",
        async () => {
          for (const client of [outside, pod2]) {
            const at = (port: number, path: string) =>
              status(client, `http://${node.ipv4}:${port}${path}`);
            assert.match(await at(10_256, "/livez"), /^200$/);
            assert.equal(await at(10_249, "/metrics"), "000");
            assert.equal(await at(10_249, "/"), "000");
          }
          assert.equal(await status(node, "http://127.0.0.1:10249/"), "200");
        },
      );
      await t.step(
        "the dashboard is for who calls it by its own name",
        async () => {
          // A page of somebody else's, whose name was made to lead here.
          const url = "http://127.0.0.1:10249/";
          assert.equal(await status(node, url, "Host: evil.example"), "403");
          assert.equal(
            await status(node, url, "Origin: http://evil.example"),
            "403",
          );
        },
      );
    },
  );
}

testWith(
  [netns, program("nft"), program("curl")],
  "metrics for everybody are no dashboard for everybody",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "route");
    const { node, outside } = stage;
    await stage.start("--metrics-bind-address=0.0.0.0:10249");
    const base = `http://${node.ipv4}:10249`;
    assert.equal(await status(outside, `${base}/metrics`), "200");
    for (
      const path of [
        "/",
        "/api/status",
        "/events",
        "/page.js",
        "/%2e%2e/",
        "//",
        "/metrics/../",
      ]
    ) {
      assert.equal(await status(outside, base + path), "404", path);
    }
  },
);
