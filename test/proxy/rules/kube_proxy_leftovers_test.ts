import assert from "node:assert/strict";
import {
  leftoversIn,
  type MachineDump,
  readLeftovers,
} from "../../../proxy/rules/kube_proxy_leftovers.ts";
import { programMissing } from "../../support/fake_ip.ts";

const NOTHING: MachineDump = { iptables: [], nftTables: "", links: "" };

function golden(name: string): string {
  const file = `../../fixture/golden/${name}.txt`;
  return Deno.readTextFileSync(new URL(file, import.meta.url));
}

function link(ifname: string): string {
  return JSON.stringify([{ ifname: "lo" }, { ifname, operstate: "DOWN" }]);
}

Deno.test("leftoversIn() knows what a real kube-proxy 1.36 loads in iptables mode", () => {
  const nat = golden("1.36-iptables.iptables-nat");
  const filter = golden("1.36-iptables.iptables-filter");
  const v6 = golden("1.36-iptables.ip6tables");
  assert.deepEqual(leftoversIn({ ...NOTHING, iptables: [nat + filter, v6] }), [
    {
      mode: "iptables",
      what: "rules for 11 Service addresses in chains KUBE-SERVICES",
    },
  ]);
  assert.equal(leftoversIn({ ...NOTHING, iptables: [filter] }).length, 1);
  // Without a Service of its family it has chains that do nothing.
  assert.deepEqual(leftoversIn({ ...NOTHING, iptables: [v6] }), []);
});

Deno.test("leftoversIn() knows what a real kube-proxy 1.36 loads in nftables mode", () => {
  const tables = golden("1.36-nftables.nft-ruleset").split("\n")
    .filter((line) => line.startsWith("table "))
    .map((line) => line.replace(" {", ""));
  const nftTables = ["table ip nat", ...tables, ""].join("\n");
  assert.deepEqual(leftoversIn({ ...NOTHING, nftTables }), [
    {
      mode: "nftables",
      what: 'the tables "ip kube-proxy" and "ip6 kube-proxy"',
    },
  ]);
  assert.deepEqual(
    leftoversIn({ ...NOTHING, nftTables: "table ip6 kube-proxy\n" }),
    [{ mode: "nftables", what: 'the table "ip6 kube-proxy"' }],
  );
});

Deno.test("leftoversIn() knows the device of ipvs mode", () => {
  assert.deepEqual(leftoversIn({ ...NOTHING, links: link("kube-ipvs0") }), [
    {
      mode: "ipvs",
      what: "the device kube-ipvs0, which has the addresses of Services",
    },
  ]);
});

Deno.test("leftoversIn() takes nobody else's for kube-proxy's", () => {
  const iptables = [
    // kubelet's, ours, and the first kube-proxy's, which are ours by name.
    `*nat
:KUBE-KUBELET-CANARY - [0:0]
:KUBE-PORTALS-CONTAINER - [0:0]
-A PREROUTING -m comment --comment "-A KUBE-SERVICES -d 10.96.0.1" -j ACCEPT
-A KUBE-PORTALS-CONTAINER -d 10.96.0.1/32 -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 20001
COMMIT
`,
    // What "kube-proxy --cleanup" leaves of a chain that kubelet shares.
    "*filter\n:KUBE-SERVICES - [0:0]\n:KUBE-FIREWALL - [0:0]\nCOMMIT\n",
  ];
  const nftTables = "table ip kube-portal\ntable inet kube-proxy-mine\n";
  for (const links of ["", "not JSON", "{}", "[null]", link("kube-ipvs01")]) {
    assert.deepEqual(leftoversIn({ iptables, nftTables, links }), []);
  }
});

Deno.test("readLeftovers() asks every program once, and needs none", async () => {
  const { signal } = new AbortController();
  const asked: string[] = [];
  const found = await readLeftovers({
    run(command) {
      const line = command.join(" ");
      asked.push(line);
      if (line === "iptables-legacy-save") {
        return Promise.resolve("*nat\n-A KUBE-SERVICES -d 10.96.0.1/32 -j X\n");
      }
      if (line === "nft list tables") {
        return Promise.resolve("table ip kube-proxy\n");
      }
      if (line === "ip -j link show") {
        return Promise.resolve(link("kube-ipvs0"));
      }
      return Promise.reject(programMissing(command[0]));
    },
  }, signal);
  assert.deepEqual(found.map(({ mode }) => mode), [
    "iptables",
    "ipvs",
    "nftables",
  ]);
  assert.equal(new Set(asked).size, asked.length);
  const none = await readLeftovers({
    run: (command) => Promise.reject(programMissing(command[0])),
  }, signal);
  assert.deepEqual(none, []);
});
