import assert from "node:assert/strict";
import {
  elementComment,
  elementText,
  frameLines,
  type NftForm,
} from "../../../proxy/rules/nft_rules.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
} from "../../../proxy/rules/redirection.ts";

const FULL: NftForm = {
  family: "IPv4",
  target: REDIRECT_TARGETS.IPv4,
  guard: "raw",
};

function rulesOf(form: NftForm): string[] {
  return frameLines(form).filter((line) => line.startsWith("add rule "))
    .map((line) =>
      line.replace(/^add rule \S+ \S+ /, "").replace(/ comment ".*"/, "")
    );
}

Deno.test("frameLines() leads packets through two maps, and closes the back door", () => {
  assert.deepEqual(rulesOf(FULL), [
    "KUBE-PORTALS-CONTAINER meta l4proto { tcp, udp } dnat to 169.254.107.1 : ip daddr . meta l4proto . th dport map @service-ips",
    "KUBE-PORTALS-HOST meta l4proto { tcp, udp } dnat to 169.254.107.1 : ip daddr . meta l4proto . th dport map @service-ips",
    "KUBE-NODEPORT-CONTAINER meta l4proto { tcp, udp } dnat to 169.254.107.1 : ip daddr . meta l4proto . th dport map @node-ports",
    "KUBE-NODEPORT-HOST meta l4proto { tcp, udp } dnat to 169.254.107.1 : ip daddr . meta l4proto . th dport map @node-ports",
    'KUBE-PORTALS-DIRECT iifname != "lo" ip daddr 169.254.107.1  drop',
  ]);
  const guards: readonly [NftForm, string | undefined][] = [
    [{ ...FULL, guard: "none" }, undefined],
    [
      { ...FULL, guard: "input" },
      'iifname != "lo" ip daddr 169.254.107.1 ct status & dnat == 0 drop',
    ],
    [
      { family: "IPv6", guard: "raw" },
      'iifname != "lo" meta l4proto . th dport @proxy-ports fib daddr type local drop',
    ],
    [
      { family: "IPv6", guard: "input" },
      'iifname != "lo" meta l4proto . th dport @proxy-ports ct status & dnat == 0 drop',
    ],
    [{ family: "IPv6", guard: "none" }, undefined],
  ];
  for (const [form, want] of guards) {
    const [, , , , guard] = rulesOf(form);
    assert.equal(guard?.replace("KUBE-PORTALS-DIRECT ", ""), want);
  }
  const [redirect] = rulesOf({ family: "IPv6", guard: "none" });
  assert.equal(
    redirect,
    "KUBE-PORTALS-CONTAINER meta l4proto { tcp, udp } redirect to : ip6 daddr . meta l4proto . th dport map @service-ips",
  );
});

Deno.test("frameLines() comes before the rules of others, and for NodePorts after them", () => {
  const chains = frameLines(FULL).filter((line) => line.startsWith("add chain"))
    .map((line) => line.replace("add chain ip kube-portal ", ""));
  assert.deepEqual(chains, [
    "KUBE-PORTALS-CONTAINER { type nat hook prerouting priority -110 ; policy accept ; }",
    "KUBE-PORTALS-HOST { type nat hook output priority -110 ; policy accept ; }",
    "KUBE-NODEPORT-CONTAINER { type nat hook prerouting priority -90 ; policy accept ; }",
    "KUBE-NODEPORT-HOST { type nat hook output priority -90 ; policy accept ; }",
    "KUBE-PORTALS-DIRECT { type filter hook prerouting priority -300 ; policy accept ; }",
  ]);
});

Deno.test("elementText() names the Service, which cannot break out of its comment", () => {
  const nexus: Redirection = {
    ip: "10.96.20.10",
    port: 8081,
    protocol: "TCP",
    isNodePort: false,
    name: "default/addon-nexus:addon-nexus-tcp-8081",
    proxyPort: 20_001,
  };
  assert.equal(
    elementText(nexus),
    '10.96.20.10 . tcp . 8081 comment "default/addon-nexus:addon-nexus-tcp-8081" : 20001',
  );
  assert.equal(
    elementText({
      ...nexus,
      name: 'x" : 1 }\nflush ruleset',
      ip: "fd00:96::a",
    }),
    'fd00:96::a . tcp . 8081 comment "x? : 1 ??flush ruleset" : 20001',
  );
  const long = `${"n".repeat(63)}/${"s".repeat(63)}:${"p".repeat(63)}`;
  assert.equal(elementComment(long), long.slice(0, 128));
});
