import assert from "node:assert/strict";
import { CommandError } from "../../../proxy/rules/command.ts";
import {
  chooseIptables,
  iptablesReason,
  isLockHeld,
  isRefusal,
} from "../../../proxy/rules/iptables_programs.ts";
import { FakeIp } from "../../support/fake_ip.ts";
import { FakeIptables } from "../../support/fake_iptables.ts";

const { signal } = new AbortController();

const OWN = "*nat\n:KUBE-PORTALS-HOST - [0:0]\nCOMMIT\n";
const KUBELET = "*mangle\n:KUBE-IPTABLES-HINT - [0:0]\nCOMMIT\n";
const RULES = (n: number) =>
  `*filter\n${"-A INPUT -j ACCEPT\n".repeat(n)}COMMIT\n`;

Deno.test("chooseIptables() takes the kind that the node uses, and says why", async () => {
  const table: readonly {
    nft?: readonly string[];
    legacy?: readonly string[];
    missing?: RegExp;
    standard?: "nft" | "legacy";
    want: readonly [string, string];
  }[] = [
    { want: ["iptables-nft", "the machine's default"] },
    { standard: "legacy", want: ["iptables-legacy", "the machine's default"] },
    {
      legacy: [RULES(1)],
      want: ["iptables-legacy", "most of the node's rules are there"],
    },
    {
      nft: [RULES(2)],
      legacy: [RULES(1)],
      standard: "legacy",
      want: ["iptables-nft", "most of the node's rules are there"],
    },
    {
      nft: [RULES(2)],
      legacy: [KUBELET],
      want: ["iptables-legacy", "kubelet uses it"],
    },
    {
      nft: [OWN],
      legacy: [KUBELET],
      want: ["iptables-nft", "rules of an earlier run are there"],
    },
    {
      missing: /nft/,
      want: ["iptables-legacy", "it is the only one"],
    },
    {
      nft: [RULES(1)],
      missing: /legacy/,
      want: ["iptables-nft", "it is the only one"],
    },
    {
      missing: /nft|iptables-legacy/,
      want: ["iptables", "it is the only one, nf_tables"],
    },
  ];
  for (const { nft = [], legacy = [], missing, standard, want } of table) {
    const runner = new FakeIptables(new FakeIp());
    for (const text of nft) runner.load("iptables-nft", text);
    for (const text of legacy) runner.load("iptables-legacy", text);
    runner.missing = missing;
    if (standard !== undefined) runner.default = standard;
    const { programs, why } = await chooseIptables("IPv4", { runner, signal });
    assert.deepEqual([programs.name, why], want);
    assert.deepEqual(runner.transactions, []);
  }
});

Deno.test("chooseIptables() takes ip6tables for IPv6", async () => {
  const runner = new FakeIptables(new FakeIp());
  runner.load("iptables-legacy", RULES(5));
  const { programs } = await chooseIptables("IPv6", { runner, signal });
  assert.deepEqual(programs, {
    name: "ip6tables-nft",
    save: "ip6tables-nft-save",
    restore: "ip6tables-nft-restore",
  });
});

Deno.test("chooseIptables() rejects where there is none", async () => {
  const runner = new FakeIptables(new FakeIp());
  runner.missing = /./;
  await assert.rejects(chooseIptables("IPv4", { runner, signal }), {
    name: "SteeringError",
    message: /iptables-save.*no such program on the PATH$/,
  });
});

Deno.test("a failure of iptables is told in one sentence, and by its kind", () => {
  const table: readonly [number | undefined, string, string, boolean][] = [
    [
      4,
      "Another app is currently holding the xtables lock. Stopped waiting after 5s.\n",
      "another program holds the lock of the rules (xtables lock)",
      false,
    ],
    [
      4,
      "iptables-nft-restore v1.8.9 (nf_tables): Could not fetch rule set generation id: Permission denied (you must be root)\n",
      "needs CAP_NET_ADMIN (run as root)",
      false,
    ],
    [
      4,
      "iptables-legacy-restore v1.8.9 (legacy): iptables-restore: unable to initialize table 'nat'\n\nFatal: Permission denied (you must be root)\n",
      "needs CAP_NET_ADMIN and CAP_NET_RAW (run as root)",
      false,
    ],
    [
      2,
      "iptables-restore v1.8.9 (legacy): Couldn't load match `nosuch':No such file or directory\n\nError occurred at line: 2\nTry `iptables-restore -h' or 'iptables-restore --help' for more information.\n",
      "iptables-restore v1.8.9 (legacy): Couldn't load match `nosuch':No such file or directory",
      true,
    ],
    [
      4,
      "Fatal: can't open lock file /run/xtables.lock: Read-only file system\n",
      "Fatal: can't open lock file /run/xtables.lock: Read-only file system; XTABLES_LOCKFILE names another file",
      false,
    ],
    [1, "", "it exited with code 1", true],
    [undefined, "", "no such program", false],
  ];
  for (const [exitCode, stderr, want, refusal] of table) {
    const error = new CommandError("no such program", {
      command: [],
      stderr,
      ...exitCode === undefined ? {} : { exitCode },
    });
    assert.equal(iptablesReason(error), want);
    assert.equal(isRefusal(error), refusal);
    assert.equal(isLockHeld(error), want.includes("xtables lock"));
  }
  assert.ok(!isRefusal(new Error("no")));
});
