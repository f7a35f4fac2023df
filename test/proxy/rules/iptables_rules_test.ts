import assert from "node:assert/strict";
import fc from "fast-check";
import {
  frameRules,
  type IptablesForm,
  isInsertedFirst,
  ownChains,
  ownPart,
  parseRedirection,
  redirectionRules,
} from "../../../proxy/rules/iptables_rules.ts";
import {
  parseSave,
  type RuleLine,
} from "../../../proxy/rules/iptables_text.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
} from "../../../proxy/rules/redirection.ts";
import { arbitraryForm, arbitraryRedirection } from "../../support/rules.ts";

const FULL: IptablesForm = {
  family: "IPv4",
  target: REDIRECT_TARGETS.IPv4,
  comments: true,
  addrtype: true,
  guard: "raw",
};
const BARE: IptablesForm = {
  family: "IPv4",
  comments: false,
  addrtype: false,
  guard: "none",
};
const NEXUS: Redirection = {
  ip: "10.96.20.10",
  port: 8081,
  protocol: "TCP",
  isNodePort: false,
  name: "default/addon-nexus:addon-nexus-tcp-8081",
  proxyPort: 20_001,
};
const DNS: Redirection = {
  ip: "fd00:96::a",
  port: 53,
  protocol: "UDP",
  isNodePort: true,
  name: "kube-system/kube-dns:dns",
  proxyPort: 20_002,
};

Deno.test("redirectionRules() writes one rule that names the Service", () => {
  const table: readonly [Redirection, IptablesForm, readonly string[]][] = [
    [NEXUS, FULL, [
      "nat -A KUBE-PORTALS-CONTAINER -d 10.96.20.10/32 -p tcp -m comment --comment default/addon-nexus:addon-nexus-tcp-8081 -m tcp --dport 8081 -j DNAT --to-destination 169.254.107.1:20001",
    ]],
    [DNS, { ...FULL, family: "IPv6", target: REDIRECT_TARGETS.IPv6 }, [
      "nat -A KUBE-NODEPORT-CONTAINER -d fd00:96::a/128 -p udp -m comment --comment kube-system/kube-dns:dns -m udp --dport 53 -j DNAT --to-destination [fd6b:7562:652d:706f:7274:616c:0:1]:20002",
    ]],
    [NEXUS, BARE, [
      "nat -A KUBE-PORTALS-CONTAINER -d 10.96.20.10/32 -p tcp -m tcp --dport 8081 -j REDIRECT --to-ports 20001",
    ]],
    [NEXUS, { ...BARE, guard: "raw" }, [
      "nat -A KUBE-PORTALS-CONTAINER -d 10.96.20.10/32 -p tcp -m tcp --dport 8081 -j REDIRECT --to-ports 20001",
      "raw -A KUBE-PORTALS-DIRECT ! -i lo -p tcp -m tcp --dport 20001 -m addrtype --dst-type LOCAL -j DROP",
    ]],
    [NEXUS, { ...BARE, guard: "filter" }, [
      "nat -A KUBE-PORTALS-CONTAINER -d 10.96.20.10/32 -p tcp -m tcp --dport 8081 -j REDIRECT --to-ports 20001",
      "filter -A KUBE-PORTALS-DIRECT ! -i lo -p tcp -m tcp --dport 20001 -m conntrack ! --ctstate DNAT -j DROP",
    ]],
  ];
  for (const [redirection, form, want] of table) {
    assert.deepEqual(redirectionRules(redirection, form), want);
  }
});

Deno.test("frameRules() leads packets into our chains, and no further than needed", () => {
  assert.deepEqual(frameRules(FULL), [
    "raw -A KUBE-PORTALS-DIRECT -d 169.254.107.1/32 ! -i lo -j DROP",
    'raw -A PREROUTING -m comment --comment "kube-portal: proxy ports only by a Service address" -j KUBE-PORTALS-DIRECT',
    'nat -A PREROUTING -m comment --comment "kube-portal: Service addresses, before NodePorts" -j KUBE-PORTALS-CONTAINER',
    'nat -A OUTPUT -m comment --comment "kube-portal: Service addresses, before NodePorts" -j KUBE-PORTALS-HOST',
    'nat -A KUBE-PORTALS-HOST -m comment --comment "kube-portal: Service addresses, before NodePorts" -j KUBE-PORTALS-CONTAINER',
    'nat -A PREROUTING -m addrtype --dst-type LOCAL -m comment --comment "kube-portal: NodePorts, after Service addresses" -j KUBE-NODEPORT-CONTAINER',
    'nat -A OUTPUT -m addrtype --dst-type LOCAL -m comment --comment "kube-portal: NodePorts, after Service addresses" -j KUBE-NODEPORT-HOST',
    'nat -A KUBE-NODEPORT-HOST -m comment --comment "kube-portal: NodePorts, after Service addresses" -j KUBE-NODEPORT-CONTAINER',
  ]);
  assert.deepEqual(frameRules(BARE), [
    "nat -A PREROUTING -j KUBE-PORTALS-CONTAINER",
    "nat -A OUTPUT -j KUBE-PORTALS-HOST",
    "nat -A KUBE-PORTALS-HOST -j KUBE-PORTALS-CONTAINER",
    "nat -A PREROUTING -j KUBE-NODEPORT-CONTAINER",
    "nat -A OUTPUT -j KUBE-NODEPORT-HOST",
    "nat -A KUBE-NODEPORT-HOST -j KUBE-NODEPORT-CONTAINER",
  ]);
  const filter = frameRules({ ...FULL, comments: false, guard: "filter" });
  assert.deepEqual(filter.slice(0, 2), [
    "filter -A KUBE-PORTALS-DIRECT -d 169.254.107.1/32 ! -i lo -m conntrack ! --ctstate DNAT -j DROP",
    "filter -A INPUT -j KUBE-PORTALS-DIRECT",
  ]);
});

Deno.test("isInsertedFirst() is so for every hook but NodePorts'", () => {
  const first = frameRules(FULL).filter(isInsertedFirst);
  assert.deepEqual(first, [
    'raw -A PREROUTING -m comment --comment "kube-portal: proxy ports only by a Service address" -j KUBE-PORTALS-DIRECT',
    'nat -A PREROUTING -m comment --comment "kube-portal: Service addresses, before NodePorts" -j KUBE-PORTALS-CONTAINER',
    'nat -A OUTPUT -m comment --comment "kube-portal: Service addresses, before NodePorts" -j KUBE-PORTALS-HOST',
  ]);
});

Deno.test("ownChains() has the guard's only where there is one", () => {
  assert.equal(ownChains(BARE).length, 4);
  assert.deepEqual(ownChains(FULL).slice(0, 1), ["raw KUBE-PORTALS-DIRECT"]);
});

Deno.test("ownPart() leaves every rule of others alone", () => {
  const { chains, rules } = ownPart(parseSave(`*nat
:PREROUTING ACCEPT [0:0]
:KUBE-SERVICES - [0:0]
:KUBE-PORTALS-HOST - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m comment --comment "like -j KUBE-PORTALS-HOST" -j KUBE-SERVICES
-A OUTPUT -j KUBE-PORTALS-HOST
-A KUBE-PORTALS-HOST -d 192.0.2.1/32 -j RETURN
-A KUBE-SERVICES -d 10.96.0.1/32 -j RETURN
COMMIT
`));
  assert.deepEqual([...chains], ["nat KUBE-PORTALS-HOST"]);
  assert.deepEqual(rules, [
    "nat -A OUTPUT -j KUBE-PORTALS-HOST",
    "nat -A KUBE-PORTALS-HOST -d 192.0.2.1/32 -j RETURN",
  ]);
});

Deno.test("parseRedirection() reads rules of the first kube-proxy", () => {
  const table: readonly [string, Redirection | undefined][] = [
    [
      "-A KUBE-PORTALS-CONTAINER -d 10.96.20.10/32 -p tcp -m comment --comment default/a:b -m tcp --dport 8081 -j REDIRECT --to-ports 43999",
      {
        ...NEXUS,
        name: "default/a:b",
        proxyPort: 43_999,
      },
    ],
    [
      "-A KUBE-PORTALS-CONTAINER -d 198.51.100.40/32 -p tcp -m comment --comment x -m tcp --dport 80 -m physdev ! --physdev-is-in -j REDIRECT --to-ports 35321",
      undefined,
    ],
    [
      "-A KUBE-NODEPORT-CONTAINER -p tcp -m comment --comment x -m tcp --dport 30080 -j REDIRECT --to-ports 38721",
      undefined,
    ],
    [
      "-A KUBE-PORTALS-HOST -d 10.96.20.10/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 1",
      undefined,
    ],
    [
      "-A KUBE-PORTALS-CONTAINER -d 10.96.0.0/16 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 1",
      undefined,
    ],
    [
      "-A KUBE-PORTALS-CONTAINER ! -d 10.96.0.1/32 -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 1",
      undefined,
    ],
    [
      "-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 -p tcp -m tcp --dport 80:90 -j REDIRECT --to-ports 1",
      undefined,
    ],
  ];
  for (const [rule, want] of table) {
    assert.deepEqual(parseRedirection(`nat ${rule}` as RuleLine), want, rule);
  }
});

Deno.test("a redirection is the same after it was written, printed and read", () => {
  fc.assert(fc.property(
    arbitraryForm(),
    arbitraryRedirection(),
    (form, redirection) => {
      const rules = redirectionRules(redirection, form);
      const printed = rules.map((rule) => {
        const [table, ...words] = rule.split(" ");
        return `*${table}\n${words.join(" ")}\nCOMMIT\n`;
      }).join("");
      const read = parseSave(printed).rules;
      assert.deepEqual(read, rules);
      const [first] = read;
      assert.ok(first !== undefined);
      const name = form.comments ? redirection.name : "";
      assert.deepEqual(parseRedirection(first), { ...redirection, name });
    },
  ));
});

Deno.test("a name cannot break out of its comment", () => {
  const name = 'default/x" -j ACCEPT\n-A INPUT -j ACCEPT';
  const rules = redirectionRules({ ...NEXUS, name }, FULL);
  assert.equal(rules.length, 1);
  assert.match(
    rules[0] ?? "",
    /--comment "default\/x\? -j ACCEPT\?-A INPUT -j ACCEPT" -m tcp/,
  );
});

Deno.test("rules are services × ports, and seven to nine around them", () => {
  const redirections = Array.from({ length: 1_000 }, (_, n): Redirection[] => [
    { ...NEXUS, ip: `10.96.${n >> 8}.${n & 255}` },
    { ...NEXUS, ip: `10.96.${n >> 8}.${n & 255}`, port: 53, protocol: "UDP" },
  ]).flat();
  const count = (form: IptablesForm) =>
    frameRules(form).length +
    redirections.flatMap((each) => redirectionRules(each, form)).length;
  assert.equal(count(FULL), 8 + 2_000);
  assert.equal(count(BARE), 6 + 2_000);
  assert.equal(count({ ...BARE, guard: "raw", addrtype: true }), 7 + 4_000);
});
