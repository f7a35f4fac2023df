/** What iptables mode does to a kernel: changes against full writes, and others' rules. */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { IpFamily } from "../../proxy/ip.ts";
import { compileIptables } from "../../proxy/rules/modes/iptables/compile.ts";
import { iptablesDriver } from "../../proxy/rules/modes/iptables/driver.ts";
import { IptablesProgrammer } from "../../proxy/rules/modes/iptables/programmer.ts";
import { programText } from "../../proxy/rules/modes/iptables/text.ts";
import { cleanupKernelMode } from "../../proxy/rules/modes/kernel_proxier.ts";
import type { ModeInput } from "../../proxy/rules/modes/mode_input.ts";
import { goldenInput } from "../support/golden.ts";
import {
  type IptablesListing,
  iptablesListing,
} from "../support/iptables_listing.ts";
import { inputOf, serviceClusters } from "../support/mode_inputs.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns, Network } from "../support/netns.ts";
import { service, slice } from "../support/objects.ts";

const NEEDS = [netns, program("iptables"), program("ip6tables")];
const { signal } = new AbortController();
const ALL = { full: true, changed: new Set<string>() };
const COMMANDS = { IPv4: "iptables", IPv6: "ip6tables" } as const;

async function loaded(
  node: Namespace,
  family: IpFamily = "IPv4",
): Promise<IptablesListing> {
  return iptablesListing(await node.run([`${COMMANDS[family]}-save`]));
}

function wanted(input: ModeInput): IptablesListing {
  return iptablesListing(programText(compileIptables(input), { jumps: true }));
}

/** Of all Services, by `namespace/name`. */
function keysOf(...inputs: readonly ModeInput[]): Set<string> {
  return new Set(
    inputs.flatMap(({ ports }) =>
      ports.map(({ servicePort: { namespace, name } }) =>
        `${namespace}/${name}`
      )
    ),
  );
}

testWith(
  NEEDS,
  "[2.43, 10.30, 10.32] changes, one after the other, end as a full write does",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const { runner } = net.node;
    await fc.assert(
      fc.asyncProperty(
        fc.array(serviceClusters, { minLength: 2, maxLength: 4 }),
        fc.constantFrom<IpFamily>("IPv4", "IPv6"),
        async (clusters, family) => {
          const programmer = new IptablesProgrammer(family, runner);
          assert.equal(await programmer.obstacle(signal), undefined);
          let before: ModeInput | undefined;
          for (const cluster of clusters) {
            const input = inputOf({ ...cluster, family });
            const scope = before === undefined
              ? ALL
              : { full: false, changed: keysOf(before, input) };
            await programmer.program(input, scope, signal);
            assert.deepEqual(await loaded(net.node, family), wanted(input));
            before = input;
          }
          // Whatever there was, a new run's first write makes it right too.
          const last = inputOf({ ...clusters[0]!, family });
          const next = new IptablesProgrammer(family, runner);
          assert.equal(await next.obstacle(signal), undefined);
          await next.program(last, ALL, signal);
          assert.deepEqual(await loaded(net.node, family), wanted(last));
          assert.ok(await next.isIntact(signal));
        },
      ),
      { numRuns: 12 },
    );
  },
);

testWith(
  NEEDS,
  "[7.49, 10.32] a partial write leaves out chains of Services that did not change",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const inputs: string[] = [];
    const { runner } = net.node;
    const programmer = new IptablesProgrammer("IPv4", {
      run(command, options) {
        if (options.stdin) inputs.push(options.stdin);
        return runner.run(command, options);
      },
    });
    assert.equal(await programmer.obstacle(signal), undefined);
    const parts = (endpoint: string) => ({
      services: ["a", "b"].map((name, i) =>
        service(`default/${name}`, { clusterIP: `10.96.0.${i}` })
      ),
      slices: [
        slice("default/a-1", { endpoints: [endpoint] }),
        slice("default/b-1", { endpoints: ["10.244.0.9"] }),
      ],
    });
    const all = await programmer.program(
      inputOf(parts("10.244.0.1")),
      ALL,
      signal,
    );
    assert.deepEqual(all.written, all.total);
    const changed = new Set(["default/a"]);
    const some = await programmer.program(
      inputOf(parts("10.244.0.2")),
      { full: false, changed },
      signal,
    );
    assert.deepEqual(some.total, all.total);
    assert.equal(some.written["nat"], (all.total["nat"] ?? 0) - 4);
    const last = inputs.at(-1) ?? "";
    assert.match(last, /--to-destination 10\.244\.0\.2:8080/);
    assert.doesNotMatch(last, /--to-destination 10\.244\.0\.9:8080/);
    assert.match(last, /default\/b cluster IP/);
    assert.equal(last.match(/^-X KUBE-SEP-/gm)?.length, 1);
    assert.deepEqual(
      await loaded(net.node),
      wanted(inputOf(parts("10.244.0.2"))),
    );
  },
);

testWith(
  NEEDS,
  "[8.97] cleanup takes what is ours, and leaves others' rules, policies and the kubelet's chain",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const { node } = net;
    const foreign = [
      "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT",
      "*filter\n:FORWARD DROP [0:0]\n:KUBE-FIREWALL - [0:0]\n:MINE - [0:0]",
      "-A INPUT -j MINE\n-A MINE -s 192.0.2.9/32 -j DROP",
      "-A INPUT -j KUBE-FIREWALL\n-A OUTPUT -j KUBE-FIREWALL",
      '-A KUBE-FIREWALL -m comment --comment "the kubelet\'s"\nCOMMIT',
      "*nat\n:KUBE-MARK-MASQ - [0:0]\n:CNI - [0:0]",
      "-A POSTROUTING -j CNI\n-A CNI -s 10.9.0.0/16 -j KUBE-MARK-MASQ",
      "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000\nCOMMIT\n",
    ].join("\n");
    await node.run(["iptables-restore"], { stdin: foreign });
    const before = await node.run(["iptables-save"]);

    const driver = iptablesDriver(node.runner);
    const [ipv4] = driver.programmers;
    assert.equal(await ipv4?.obstacle(signal), undefined);
    await driver.writeMark(new Map(), signal);
    await ipv4?.program(goldenInput("iptables", "IPv4"), ALL, signal);
    const during = await loaded(node);
    assert.ok(during["nat"]?.["KUBE-SERVICES"]?.length);
    assert.equal(
      during["filter"]?.["INPUT"]?.filter((rule) => /-FIREWALL$/.test(rule))
        .length,
      2,
      "the jump that was there is not there twice",
    );
    // A run that knows nothing of this one.
    await cleanupKernelMode(iptablesDriver(node.runner), {
      runner: node.runner,
      signal,
    });
    const after = await loaded(node);
    assert.deepEqual(after["nat"], iptablesListing(before)["nat"]);
    assert.deepEqual(
      Object.keys(after["filter"] ?? {}).sort(),
      ["INPUT", "KUBE-FIREWALL", "MINE", "OUTPUT"],
    );
    assert.deepEqual(Object.keys(after["mangle"] ?? {}), [
      "KUBE-IPTABLES-HINT",
    ]);
    assert.match(await node.run(["iptables-save"]), /^:FORWARD DROP/m);
    // Twice is fine, and a kube-proxy's rules have no mark.
    await ipv4?.program(goldenInput("iptables", "IPv4"), ALL, signal);
    const theirs = await loaded(node);
    await cleanupKernelMode(iptablesDriver(node.runner), {
      runner: node.runner,
      signal,
    });
    assert.deepEqual(await loaded(node), theirs);
  },
);

testWith(
  NEEDS,
  "[10.34] a refused restore is shown with its line, and nothing of its table is written",
  async () => {
    await using net = await Network.create({ pods: 0 });
    const { runner } = net.node;
    const programmer = new IptablesProgrammer("IPv4", {
      run: (command, options) =>
        runner.run(command, {
          ...options,
          ...(options.stdin?.includes("KUBE-SVC-")
            ? {
              stdin: options.stdin.replace("-j DNAT", "-j NOSUCHTARGET"),
            }
            : {}),
        }),
    });
    assert.equal(await programmer.obstacle(signal), undefined);
    await assert.rejects(
      programmer.program(goldenInput("iptables", "IPv4"), ALL, signal),
      /its lines from \d+ on: .*--to-destination/,
    );
    assert.equal((await loaded(net.node))["nat"]?.["KUBE-SERVICES"], undefined);
  },
);
