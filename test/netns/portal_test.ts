/**
 * `portal` with the whole program on a node in a network namespace: what the
 * matrix does not show of it. Each promise is one of `proxy/rules/README.md`.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import { eventually } from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { type Namespace, netns } from "../support/netns.ts";
import { ANSWERED, outcome, outcomes } from "../support/steering_paths.ts";
import {
  BALANCED,
  HELD,
  PORTS,
  type SteeringStage,
  steeringStage,
  WEB,
} from "../support/steering_stage.ts";

const SECOND_UNSERVED = PORTS.unserved;

/** How a dial of a Service ends. */
async function ask(
  from: Namespace,
  ip: string,
  protocol: "tcp" | "udp" = "tcp",
  port: number = PORTS.service,
): Promise<string> {
  return outcome(await from.dial(protocol, ip, { port, text: "hello" }));
}

function words(text: string): string[] {
  return text.split(" ");
}

/** What a portal consists of, and nothing that counts or ages. */
async function dump({ node }: SteeringStage): Promise<string> {
  const ip = async (...args: string[]) => {
    try {
      return await node.run(["ip", ...args]);
    } catch {
      return "";
    }
  };
  const parts = await Promise.all([
    ip("netns", "list"),
    ip("-br", "link", "show", "type", "veth"),
    ip("-4", "route", "show", "table", "all"),
    ip("-6", "route", "show", "table", "all"),
    ip("-n", "kube-portal", "-4", "route", "show", "table", "all"),
    ip("-n", "kube-portal", "-6", "route", "show", "table", "all"),
    ip("neigh", "show", "nud", "permanent"),
  ]);
  return parts.join("\n").split("\n")
    // Link-local addresses come when they like.
    .filter((line) => !/ fe80::|^fe80::|multicast/.test(line))
    .join("\n").replaceAll(/ \(id: \d+\)|@if\d+ *| expires \d+sec/g, "");
}

testWith(
  [netns],
  "portal and wildcard listeners of the node have the same ports, in both orders",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    const { node, pod2, outside } = stage;
    // External addresses that the node has are bound on the node.
    for (const ip of [...HELD, ...BALANCED]) {
      await node.run(["ip", "addr", "del", ip, "dev", "lo"]);
    }
    const wildcard = (ports: readonly number[]) =>
      ports.flatMap((port) => [`tcp/0.0.0.0/${port}`, `udp/0.0.0.0/${port}`]);
    const all = async () => {
      const seen: string[] = [];
      for (const from of [node, pod2, outside]) {
        for (const ip of WEB) seen.push(await ask(from, ip));
        seen.push(await ask(from, WEB[0], "udp"));
        seen.push(await ask(from, WEB[0], "tcp", SECOND_UNSERVED));
      }
      return seen;
    };
    const want = Array.from(
      { length: 3 },
      () => [ANSWERED, ANSWERED, ANSWERED, "refused"],
    ).flat();
    const addresses = wildcard([PORTS.service, SECOND_UNSERVED]);
    {
      await using _first = await node.endpoint(addresses, "host");
      const proxy = await stage.start();
      assert.deepEqual(await all(), want);
      const own = await outside.dial("tcp", node.ipv4, { port: 80 });
      assert.match(own, /^host /);
      proxy.kill("SIGTERM");
      await proxy.ended;
    }
    await stage.start();
    await using _second = await node.endpoint(addresses, "host");
    assert.deepEqual(await all(), want);
  },
);

testWith(
  [netns],
  "portal leads every way to a Service to the portable engine too",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    const proxy = await stage.start("--engine=portable");
    assert.match(proxy.output, /Moving bytes by portable/);
    const wrong = [...await outcomes(stage, "portal")]
      .filter(([, { want, got }]) => want !== got);
    assert.deepEqual(wrong, []);
  },
);

testWith(
  [netns, program("conntrack")],
  "portal leaves the kernel no connection to track",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    await stage.start();
    for (const from of [stage.pod2, stage.node, stage.outside]) {
      assert.equal(await ask(from, WEB[0]), ANSWERED);
      assert.equal(await ask(from, WEB[0], "udp"), ANSWERED);
    }
    const count = await stage.node.run(["conntrack", "-C"]);
    assert.equal(count.trim(), "0");
  },
);

testWith([netns], "portal puts back whatever somebody removed", async (t) => {
  await using stack = new AsyncDisposableStack();
  const stage = await steeringStage(stack, "portal");
  const { node, pod2 } = stage;
  await stage.start("--iptables-sync-period=1s");
  const installed = await dump(stage);
  const inside = ["ip", "-n", "kube-portal"] as const;
  const harms: Readonly<Record<string, readonly [string, ...string[]]>> = {
    "the route to it": ["ip", "route", "del", "10.96.0.0/16"],
    "the route inside": [
      ...inside,
      ...words("route del local 10.96.0.0/16 dev lo"),
    ],
    "the way back": [...inside, "route", "del", "default"],
    "the neighbour": [
      "ip",
      ...words("neigh del 169.254.107.2 dev kube-portal0"),
    ],
    "the pair": ["ip", "link", "del", "kube-portal0"],
    "the namespace's name": ["ip", "netns", "del", "kube-portal"],
  };
  for (const [name, harm] of Object.entries(harms)) {
    await t.step(name, async () => {
      await node.run(harm);
      await eventually(
        `${name} is put back`,
        () => dump(stage),
        (seen) => seen === installed,
      );
      for (const from of [node, pod2]) {
        for (const ip of WEB) {
          assert.equal(await ask(from, ip), ANSWERED);
          assert.equal(await ask(from, ip, "udp"), ANSWERED);
        }
      }
    });
  }
});

testWith(
  [netns],
  "portal adopts what a crash left, and cleanup leaves nothing, twice",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    const before = await dump(stage);
    const crash = async (proxy: Child) => {
      proxy.kill("SIGKILL");
      await proxy.ended;
    };
    await crash(await stage.start());
    const installed = await dump(stage);
    assert.equal(await ask(stage.pod2, WEB[0]), "refused");
    const next = await stage.start();
    assert.equal(await dump(stage), installed);
    assert.equal(await ask(stage.pod2, WEB[0]), ANSWERED);
    await crash(next);
    for (let i = 0; i < 2; i++) {
      await using cleanup = stage.command("cleanup");
      assert.equal((await cleanup.status).code, 0);
      await cleanup.ended;
      assert.equal(await dump(stage), before);
    }
  },
);

testWith([netns], "portal takes over from route, and back", async () => {
  await using stack = new AsyncDisposableStack();
  const stage = await steeringStage(stack, "portal");
  for (const steer of ["route", "portal", "route"]) {
    const proxy = await stage.start(`--steer=${steer}`);
    assert.match(proxy.output, new RegExp(`Steering by ${steer}:`));
    for (const from of [stage.node, stage.pod2]) {
      assert.equal(await ask(from, WEB[0]), ANSWERED);
    }
    const routes = await stage.node.run([
      "ip",
      "route",
      "show",
      "table",
      "all",
    ]);
    assert.equal(routes.includes("kube-portal0"), steer === "portal");
    proxy.kill("SIGTERM");
    await proxy.ended;
  }
});

testWith(
  [netns],
  "auto takes portal where a probe through it answers, and says why not elsewhere",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    const { node } = stage;
    const auto = async () => {
      const proxy = await stage.start("--steer=auto");
      proxy.kill("SIGTERM");
      await proxy.ended;
      return / Steering by .*/.exec(proxy.output)?.[0];
    };
    const set = (name: string, value: number) =>
      node.run(["sysctl", "-q", "-w", `${name}=${value}`]);

    await t.step("no firewall", async () => {
      assert.match(await auto() ?? "", /^ Steering by portal: /);
      assert.match(await dump(stage), /kube-portal0/);
      assert.doesNotMatch(await dump(stage), /probe|kube-portal1/);
    });
    await t.step("forwarding is off", async () => {
      await set("net.ipv4.ip_forward", 0);
      assert.match(
        await auto() ?? "",
        /^ Steering by route: .*not_portal="Cannot steer by portal: the node forwards no packets: net.ipv4.ip_forward is off"/,
      );
      assert.doesNotMatch(await dump(stage), /kube-portal/);
      await set("net.ipv4.ip_forward", 1);
    });
    await t.step("forwarding of IPv6 is off", async () => {
      await set("net.ipv6.conf.all.forwarding", 0);
      assert.match(
        await auto() ?? "",
        /^ Steering by route: .*net.ipv6.conf.all.forwarding is off/,
      );
      await set("net.ipv6.conf.all.forwarding", 1);
    });
  },
);

testWith(
  [netns, program("iptables-legacy")],
  "auto says that the firewall lets nothing through to the portal",
  async () => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    await stage.node.run(["iptables-legacy", "-P", "FORWARD", "DROP"]);
    const proxy = await stage.start("--steer=auto");
    assert.match(
      proxy.output,
      / Steering by route: .*not_portal="Cannot steer by portal: the node's firewall does not let packets through to the namespace \(IPv4; chain FORWARD/,
    );
  },
);

testWith(
  [netns],
  "portal says what it lacks, and that pods may not get through",
  async (t) => {
    await using stack = new AsyncDisposableStack();
    const stage = await steeringStage(stack, "portal");
    await t.step("CAP_SYS_ADMIN", async () => {
      const args = [
        "--steer=portal",
        "--service-cidr=10.96.0.0/16",
        "--healthz-bind-address=",
        "--metrics-bind-address=",
        `--manifests=${stage.manifests}`,
      ];
      await using child = stage.commandWith(
        ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"],
        ...args,
      );
      assert.equal((await child.status).code, 1);
      await child.ended;
      assert.match(
        child.output,
        /Cannot make a portal: needs CAP_NET_ADMIN and CAP_SYS_ADMIN/,
      );
    });
    await t.step("forwarding", async () => {
      await stage.node.run(["sysctl", "-q", "-w", "net.ipv4.ip_forward=0"]);
      const proxy = await stage.start();
      assert.match(proxy.output, /Pods may not reach Services/);
      assert.equal(await ask(stage.node, WEB[0]), ANSWERED);
    });
  },
);
