/** What a running nftables mode does to a kernel, beside writing its table. */
import assert from "node:assert/strict";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import type { IpFamily } from "../../proxy/ip.ts";
import { type CommandRunner, systemRunner } from "../../proxy/rules/command.ts";
import {
  type ModeInput,
  modeInput,
} from "../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../support/mode_settings.ts";
import { nftablesDriver } from "../../proxy/rules/modes/nftables/driver.ts";
import { NftablesProgrammer } from "../../proxy/rules/modes/nftables/nftables_programmer.ts";
import { goldenInput, goldenText } from "../support/golden.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { nftListing } from "../support/nft_listing.ts";
import { service, type ServiceOverrides, slice } from "../support/objects.ts";

const NEEDS = [netns, program("nft")];
const SIGNAL = new AbortController().signal;
const ALL = { full: true, changed: new Set<string>() };

/** Many Services, of which `default/web` has these endpoints. */
function input(
  endpoints: readonly string[],
  { others = 0, ...overrides }: ServiceOverrides & { others?: number } = {},
): ModeInput {
  const names = Array.from({ length: others }, (_, i) => `default/other-${i}`);
  return modeInput({
    mode: "nftables",
    family: "IPv4",
    state: buildDesiredState(
      [
        service("default/web", overrides),
        ...names.map((name, i) =>
          service(name, { clusterIP: `10.96.${1 + (i >> 8)}.${i & 255}` })
        ),
      ],
      {
        slices: [
          slice("default/web-1", { endpoints }),
          ...names.map((name) => slice(`${name}-1`, { endpoints })),
        ],
        node: { name: "n1", zone: "" },
      },
    ),
    settings: DEFAULT_MODE_SETTINGS,
    nodeName: "n1",
    node: undefined,
    interfaceIps: [],
    serviceCidrs: [],
  });
}

function only(...services: string[]) {
  return { full: false, changed: new Set(services) };
}

/** Real `nft`, with a record of what it was given. */
class Recorder implements CommandRunner {
  readonly inputs: string[] = [];
  readonly #runner: CommandRunner;

  constructor({ runner }: Namespace) {
    this.#runner = runner;
  }

  run: CommandRunner["run"] = (command, options) => {
    this.inputs.push(options.stdin ?? command.join(" "));
    return this.#runner.run(command, options);
  };
}

function programmerIn(
  namespace: Namespace,
  options: { runner?: CommandRunner; family?: IpFamily; now?: () => number } =
    {},
) {
  const { runner = namespace.runner, family = "IPv4", now = () => 0 } = options;
  return new NftablesProgrammer({ family, runner, now });
}

async function listing(namespace: Namespace) {
  const list = ["nft", "list", "table", "ip", "kube-proxy"] as const;
  return nftListing(await namespace.run([...list]), "ip");
}

testWith(
  NEEDS,
  "[10.35] a change of one Service among many is one transaction about that Service",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const runner = new Recorder(net.node);
    const programmer = programmerIn(net.node, { runner });
    assert.equal(await programmer.obstacle(SIGNAL), undefined);
    const first = await programmer.program(
      input(["10.244.0.2"], { others: 50 }),
      ALL,
      SIGNAL,
    );
    assert.ok((first.written["kube-proxy"] ?? 0) > 150);
    assert.deepEqual(first.written, first.total);

    runner.inputs.length = 0;
    const changed = input(["10.244.0.2", "10.244.0.3"], { others: 50 });
    const result = await programmer.program(
      changed,
      only("default/web"),
      SIGNAL,
    );
    assert.equal(runner.inputs.length, 1);
    const lines = runner.inputs[0]?.trimEnd().split("\n") ?? [];
    assert.deepEqual(lines.map((line) => line.split(" ").slice(0, 2)), [
      ["flush", "chain"],
      ["add", "rule"],
    ]);
    assert.deepEqual(result.written, { "kube-proxy": 1 });
    assert.deepEqual(result.total, first.total);

    runner.inputs.length = 0;
    await programmer.program(changed, only("default/web"), SIGNAL);
    assert.deepEqual(runner.inputs, []);
  },
);

testWith(
  NEEDS,
  "[10.39] a chain that nothing leads to any more is empty at once, and deleted later",
  async () => {
    await using net = await Network.create({ pods: 0 });
    let now = 0;
    const programmer = programmerIn(net.node, { now: () => now });
    await programmer.program(input(["10.244.0.2"]), ALL, SIGNAL);
    const chains = async () =>
      Object.entries(await listing(net.node))
        .filter(([name]) => name.includes("/web/"));
    assert.equal((await chains())[0]?.[1].length, 1);

    await programmer.program(input([]), only("default/web"), SIGNAL);
    assert.deepEqual((await chains()).map(([, rules]) => rules), [[]]);
    now = 999;
    assert.ok(await programmer.isIntact(SIGNAL));
    assert.equal((await chains()).length, 1);
    now = 1_000;
    assert.ok(await programmer.isIntact(SIGNAL));
    assert.deepEqual(await chains(), []);
  },
);

testWith(
  NEEDS,
  "[7.43] a chain that somebody else leads to stays, is counted, and keeps nothing else from happening",
  async () => {
    await using net = await Network.create({ pods: 0 });
    let now = 0;
    const programmer = programmerIn(net.node, { now: () => now });
    await programmer.program(input(["10.244.0.2"]), ALL, SIGNAL);
    const name = Object.keys(await listing(net.node))
      .find((each) => each.includes("/web/"))?.replace("chain ", "") ?? "";
    await net.node.run(["nft", "-f", "-"], {
      stdin: `add chain ip kube-proxy theirs\n` +
        `add rule ip kube-proxy theirs jump ${name}\n`,
    });
    await programmer.program(input([]), only("default/web"), SIGNAL);
    now = 1_000;
    assert.ok(await programmer.isIntact(SIGNAL));
    assert.equal(programmer.cleanupFailures, 1);
    assert.ok(`chain ${name}` in await listing(net.node));
    await programmer.program(
      input(["10.244.0.3"]),
      only("default/web"),
      SIGNAL,
    );
    assert.ok(await programmer.isIntact(SIGNAL));
  },
);

testWith(
  NEEDS,
  "[4.16] clients stay where they are when their time-out changes, and over a restart",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const sticky = (seconds: number) =>
      input(["10.244.0.2"], {
        sessionAffinity: "ClientIP",
        sessionAffinityTimeoutSeconds: seconds,
      });
    const programmer = programmerIn(net.node);
    await programmer.program(sticky(600), ALL, SIGNAL);
    const set =
      Object.keys(await listing(net.node)).find((name) =>
        name.startsWith("set affinity-")
      )?.replace("set ", "") ?? "";
    const spec = ["ip", "kube-proxy", set];
    await net.node.run(["nft", "add", "element", ...spec, "{ 10.244.0.9 }"]);
    const remembered = async () =>
      await net.node.run(["nft", "list", "set", ...spec]);

    await programmer.program(sticky(1_200), only("default/web"), SIGNAL);
    assert.match(await remembered(), /timeout 20m[^]*10\.244\.0\.9/);
    await programmerIn(net.node).program(sticky(1_200), ALL, SIGNAL);
    assert.match(await remembered(), /timeout 20m[^]*10\.244\.0\.9/);
  },
);

testWith(
  NEEDS,
  "[10.35, 10.39] a table of an earlier kube-proxy is taken over, with what is in it, in one transaction",
  async () => {
    await using net = await Network.create({ pods: 0 });
    // What another version may have had: other hooks, chains, sets and elements.
    await net.node.run(["nft", "-f", "-"], {
      stdin: `table ip kube-proxy {
        comment "rules for kube-proxy"
        set cluster-ips { type ipv4_addr . inet_service; }
        set affinity-OLD { type ipv4_addr; flags dynamic,timeout; timeout 60s; }
        map service-ips { type inet_service : verdict; elements = { 80 : goto service-OLD } }
        map old-map { type inet_service : verdict; elements = { 80 : goto service-OLD } }
        chain service-OLD { ip saddr @affinity-OLD drop; }
        chain old-base { type filter hook forward priority 7; jump service-OLD; }
        chain nat-output { type nat hook output priority -42; tcp dport vmap @old-map; }
      }
      table ip somebody {
        chain other { type filter hook input priority 3; }
      }
      `,
    });
    const runner = new Recorder(net.node);
    const programmer = programmerIn(net.node, { runner });
    await programmer.program(goldenInput("nftables", "IPv4"), ALL, SIGNAL);
    assert.equal(runner.inputs.length, 2, "a list, and a transaction");
    const { "chain service-OLD": empty, ...rest } = await listing(net.node);
    assert.deepEqual(empty, []);
    assert.deepEqual(
      rest,
      nftListing(goldenText("1.36-nftables.nft-ruleset.txt"), "ip"),
    );
    assert.match(await net.node.run(["nft", "list", "ruleset"]), /somebody/);
  },
);

testWith(
  NEEDS,
  "isIntact() notices what somebody else removed, and a full write puts it back",
  async (t) => {
    await using net = await Network.create({ pods: 0 });
    const programmer = programmerIn(net.node);
    const golden = goldenInput("nftables", "IPv4");
    await programmer.program(golden, ALL, SIGNAL);
    const whole = await listing(net.node);
    const damages = [
      "flush ruleset",
      "delete table ip kube-proxy",
      "flush table ip kube-proxy",
      "flush chain ip kube-proxy nat-output",
      "add rule ip kube-proxy services drop",
    ];
    for (const damage of damages) {
      await t.step(damage, async () => {
        assert.ok(await programmer.isIntact(SIGNAL));
        await net.node.run(["nft", damage]);
        assert.ok(!await programmer.isIntact(SIGNAL));
        await programmer.program(golden, ALL, SIGNAL);
        assert.deepEqual(await listing(net.node), whole);
        const { readMark } = nftablesDriver(net.node.runner);
        assert.ok(await readMark(SIGNAL) !== undefined);
      });
    }
  },
);

testWith(
  NEEDS,
  "a change that the kernel refuses leaves what was, and the next write is a full one",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const programmer = programmerIn(net.node);
    await programmer.program(input(["10.244.0.2"]), ALL, SIGNAL);
    // Behind its back.
    await net.node.run([
      "nft",
      "delete element ip kube-proxy service-ips { 10.96.0.10 . tcp . 80 }",
    ]);
    await assert.rejects(
      programmer.program(input([]), only("default/web"), SIGNAL),
      /No such file or directory/,
    );
    assert.match(
      JSON.stringify(await listing(net.node)),
      /10\.244\.0\.2 \. 8080/,
    );
    await programmer.program(input([]), only("default/web"), SIGNAL);
    assert.deepEqual(
      (await listing(net.node))["map no-endpoint-services"]?.slice(2),
      ['10.96.0.10 . tcp . 80 comment "default/web" : goto reject-chain'],
    );
  },
);

testWith(
  NEEDS,
  "a first write of many Services is in parts, of which the last alone leads anywhere",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const runner = new Recorder(net.node);
    const programmer = programmerIn(net.node, { runner });
    const many = input(["10.244.0.2"], { others: 1_200 });
    await programmer.program(many, ALL, SIGNAL);
    const [, ...transactions] = runner.inputs;
    assert.equal(transactions.length, 5);
    for (const [i, text] of transactions.entries()) {
      const isLast: boolean = i === 4;
      assert.equal(text.includes("add element"), isLast);
      assert.equal(text.includes("nat-output jump services"), isLast);
    }
    assert.ok(await programmer.isIntact(SIGNAL));
  },
);

testWith(
  NEEDS,
  "[10.35] the driver marks what is its own, and cleans up no more than that",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const driver = nftablesDriver(net.node.runner);
    await net.node.run(["nft", "add table ip somebody"]);
    assert.equal(await driver.readMark(SIGNAL), undefined);
    await driver.writeMark(new Map(), SIGNAL);
    await driver.writeMark(new Map(), SIGNAL);
    assert.deepEqual(await driver.readMark(SIGNAL), new Map());
    assert.deepEqual(driver.sysctls(DEFAULT_MODE_SETTINGS), []);
    for (const programmer of driver.programmers) {
      const golden = goldenInput("nftables", programmer.family);
      await programmer.program(golden, ALL, SIGNAL);
    }
    for (const programmer of driver.programmers) {
      await programmer.cleanup(SIGNAL);
      await programmer.cleanup(SIGNAL);
    }
    await driver.removeMark(SIGNAL);
    assert.equal(await driver.readMark(SIGNAL), undefined);
    assert.equal(
      (await net.node.run(["nft", "list", "ruleset"])).trim(),
      "table ip somebody {\n}",
    );
  },
);

testWith(
  NEEDS,
  "names and numbers that no API server has checked keep nothing from being loaded",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const programmer = programmerIn(net.node);
    const names = [
      'a"; drop',
      "ü {x}",
      "a b",
      "@set",
      "x".repeat(300),
      "1",
      "",
    ];
    const services = names.map((name, i) =>
      service(`default/${name}`, {
        clusterIP: `10.96.0.${i + 1}`,
        sessionAffinity: i % 2 === 0 ? "ClientIP" : "None",
        sessionAffinityTimeoutSeconds: 10 ** (i + 3),
        ports: [{ name, port: i }],
        type: "LoadBalancer",
        ingress: [`203.0.113.${i + 1}`],
        loadBalancerSourceRanges: ["10.0.0.0/8", "10.1.0.0/16", "10.1.0.1/32"],
      })
    );
    const endpoints = Array.from(
      { length: 600 },
      (_, i) => `10.244.${i >> 8}.${i & 255}`,
    );
    const facts = modeInput({
      mode: "nftables",
      family: "IPv4",
      state: buildDesiredState(services, {
        slices: names.map((name, i) =>
          slice(`default/${i}-1`, {
            service: name,
            ports: [{ name }],
            endpoints,
          })
        ),
        node: { name: "n1", zone: "" },
      }),
      settings: DEFAULT_MODE_SETTINGS,
      nodeName: "n1",
      node: undefined,
      interfaceIps: [],
      serviceCidrs: [],
    });
    await programmer.program(facts, ALL, SIGNAL);
    assert.ok(await programmer.isIntact(SIGNAL));
    const ips = (await listing(net.node))["map service-ips"] ?? [];
    assert.ok(ips.length > names.length);
  },
);

testWith(
  [...NEEDS, program("setpriv")],
  "obstacle() says in one sentence what keeps a family from being programmed, and leaves nothing",
  async () => {
    await using net = await Network.create({ pods: 0 });
    for (const family of ["IPv4", "IPv6"] as const) {
      const able = programmerIn(net.node, { family });
      assert.equal(await able.obstacle(SIGNAL), undefined);
    }
    assert.equal(await net.node.run(["nft", "list", "ruleset"]), "");
    const through = (...prefix: [string, ...string[]]): CommandRunner => ({
      run: (command, options) =>
        net.node.runner.run([...prefix, ...command], options),
    });
    const weak = ["--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    const unable = programmerIn(net.node, {
      runner: through("setpriv", ...weak),
    });
    assert.equal(
      await unable.obstacle(SIGNAL),
      "Cannot load rules with nft: needs CAP_NET_ADMIN (run as root)",
    );
    const without = programmerIn(net.node, {
      runner: {
        run: (_, options) => systemRunner.run(["no-such-nft"], options),
      },
    });
    assert.match(
      await without.obstacle(SIGNAL) ?? "",
      /^Cannot load rules with nft: Cannot run "no-such-nft": no such program/,
    );
  },
);
