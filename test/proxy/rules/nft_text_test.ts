import assert from "node:assert/strict";
import {
  frameOf,
  ownSetsIn,
  parseTable,
  parseTables,
} from "../../../proxy/rules/nft_text.ts";

/** As nft 1.0.6 prints it; without `-t`, as a version that ignores it would. */
const TABLE = `table ip kube-portal-probe {
	flags dormant

	map service-ips {
		type ipv4_addr . inet_proto . inet_service : inet_service
		elements = { 192.0.2.1 . tcp . 1 comment "probe" : 1,
			     192.0.2.2 . tcp . 1 comment "probe" : 1 }
	}

	map node-ports {
		type ipv4_addr . inet_proto . inet_service : inet_service
	}

	set mine {
		type ipv4_addr
	}

	chain KUBE-PORTALS-HOST {
		type nat hook output priority -110; policy accept;
	}
}
`;

Deno.test("parseTables() reads names, of whatever family", () => {
  assert.deepEqual(
    parseTables("table ip nat\ntable ip6 kube-portal\ntable inet x # of y\n"),
    new Set(["ip nat", "ip6 kube-portal"]),
  );
  assert.deepEqual(parseTables(""), new Set());
});

Deno.test("frameOf() is the same for a probe and the table itself", () => {
  const probe = frameOf(TABLE, { table: "kube-portal-probe", isAsleep: true });
  const real = TABLE.replace("-probe", "").replace("flags dormant", "")
    .replace(/\t\telements = [^}]*\}\n/, "");
  assert.equal(frameOf(real, { table: "kube-portal" }), probe);
  assert.deepEqual(ownSetsIn(probe), [
    { kind: "map", name: "service-ips" },
    { kind: "map", name: "node-ports" },
  ]);
  const asleep = TABLE.replace("-probe", "");
  assert.notEqual(frameOf(asleep, { table: "kube-portal" }), probe);
  const other = real.replace("-110", "-111");
  assert.notEqual(frameOf(other, { table: "kube-portal" }), probe);
});

function json(kind: "map" | "set", elem: readonly unknown[]): string {
  return JSON.stringify({
    nftables: [{ metainfo: {} }, { [kind]: { name: "x", elem } }],
  });
}

Deno.test("parseTable() reads elements with and without comments", () => {
  const web = ["10.96.0.10", "tcp", 80];
  const table = parseTable("frame", [
    {
      name: "service-ips",
      json: json("map", [
        [
          { elem: { val: { concat: web }, comment: "default/web:http" } },
          20_001,
        ],
        [{ concat: ["fd00:96:0::a", 17, 53] }, 20_002],
      ]),
    },
    {
      name: "node-ports",
      json: json("map", [[{ concat: ["192.0.2.11", "tcp", 30_080] }, 20_003]]),
    },
    {
      name: "proxy-ports",
      json: json("set", [
        { concat: ["tcp", 20_001] },
        { elem: { val: { concat: [17, 20_002] }, comment: "x" } },
      ]),
    },
  ]);
  assert.equal(table.frame, "frame");
  assert.equal(table.hasStrangers, false);
  assert.deepEqual([...table.redirections.values()], [
    {
      ip: "10.96.0.10",
      port: 80,
      protocol: "TCP",
      isNodePort: false,
      name: "default/web:http",
      proxyPort: 20_001,
    },
    {
      ip: "fd00:96::a",
      port: 53,
      protocol: "UDP",
      isNodePort: false,
      name: "",
      proxyPort: 20_002,
    },
    {
      ip: "192.0.2.11",
      port: 30_080,
      protocol: "TCP",
      isNodePort: true,
      name: "",
      proxyPort: 20_003,
    },
  ]);
  assert.deepEqual(table.proxyPorts, new Set(["tcp . 20001", "udp . 20002"]));
});

Deno.test("parseTable() knows elements that are none of ours", () => {
  const table: readonly [string, unknown][] = [
    ["service-ips", [{ concat: ["10.96.0.10", "sctp", 80] }, 20_001]],
    ["service-ips", [{ concat: ["10.96.0.10", "tcp", 0] }, 20_001]],
    ["service-ips", [{ concat: ["a name", "tcp", 80] }, 20_001]],
    ["service-ips", ["10.96.0.10", { drop: null }]],
    ["proxy-ports", { concat: ["icmp", 1] }],
    ["proxy-ports", 7],
  ];
  for (const [name, element] of table) {
    const read = parseTable("", [{ name, json: json("map", [element]) }]);
    assert.equal(read.hasStrangers, true, JSON.stringify(element));
    assert.equal(read.redirections.size + read.proxyPorts.size, 0);
  }
  const twice = [{ concat: ["10.96.0.10", "tcp", 80] }, 20_001];
  const both = ["service-ips", "node-ports"].map((name) => ({
    name,
    json: json("map", [twice]),
  }));
  const read = parseTable("", both);
  assert.equal(read.hasStrangers, true);
  assert.equal([...read.redirections.values()][0]?.isNodePort, false);
});

Deno.test("parseTable() throws where there is no JSON", () => {
  for (const json of ["", "table ip x {}", "{}"]) {
    assert.throws(() => parseTable("", [{ name: "service-ips", json }]), {
      name: "SyntaxError",
    });
  }
});
