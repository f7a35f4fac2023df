import assert from "node:assert/strict";
import {
  difference,
  drainingIn,
  isNothing,
  without,
} from "../../../../../proxy/rules/modes/ipvs/difference.ts";
import {
  type Installed,
  installedOf,
  NOTHING_INSTALLED,
  ownServers,
  parseAddresses,
  parseConnections,
  parseServers,
  parseSets,
} from "../../../../../proxy/rules/modes/ipvs/installed.ts";
import type {
  IpvsProgram,
  VirtualServer,
} from "../../../../../proxy/rules/modes/ipvs/program.ts";
import {
  addressesText,
  ipsetText,
  ipvsadmText,
} from "../../../../../proxy/rules/modes/ipvs/text.ts";

function server(ip: string, overrides: Partial<VirtualServer> = {}) {
  return {
    ip,
    port: 80,
    protocol: "TCP",
    kind: "ClusterIP",
    service: "default/web",
    scheduler: "rr",
    schedulerFlags: "",
    persistentSeconds: 0,
    realServers: [],
    ...overrides,
  } as const satisfies VirtualServer;
}

function real(...ips: readonly string[]) {
  return ips.map((ip) => ({ ip, port: 8080, weight: 1 }));
}

function program(...virtualServers: readonly VirtualServer[]): IpvsProgram {
  return {
    family: "IPv4",
    virtualServers,
    sets: [{
      name: "KUBE-CLUSTER-IP",
      type: "hash:ip,port",
      entries: virtualServers.map(({ ip, port, protocol }) =>
        `${ip},${protocol.toLowerCase()}:${port}`
      ),
    }],
    tables: [],
    jumps: [],
    addresses: virtualServers.map(({ ip }) => ip),
  };
}

/** Without what is there afterwards, and without what is empty. */
function lines(installed: Installed, wanted: IpvsProgram, exclude?: string[]) {
  const { after: _, ...rest } = difference(installed, wanted, exclude);
  return Object.fromEntries(
    Object.entries(rest).filter(([, each]) => each.length > 0),
  );
}

const A = server("10.96.0.1", { realServers: real("10.244.0.2") });
const B = server("10.96.0.2");

Deno.test("difference() of nothing and a program is the whole program", () => {
  assert.deepEqual(lines(NOTHING_INSTALLED, program(A)), {
    newEntries: [
      "create KUBE-CLUSTER-IP hash:ip,port family inet hashsize 1024 maxelem 65536 -exist",
      "add KUBE-CLUSTER-IP 10.96.0.1,tcp:80 -exist",
    ],
    servers: [
      "-A -t 10.96.0.1:80 -s rr",
      "-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1",
    ],
    newAddresses: ["address replace 10.96.0.1/32 dev kube-ipvs0"],
  });
});

Deno.test("difference() of a program and itself is nothing, and of another one what changed", () => {
  const there = installedOf(program(A));
  assert.ok(isNothing(difference(there, program(A))));
  assert.deepEqual(lines(there, program(A, B)), {
    newEntries: ["add KUBE-CLUSTER-IP 10.96.0.2,tcp:80 -exist"],
    servers: ["-A -t 10.96.0.2:80 -s rr"],
    newAddresses: ["address replace 10.96.0.2/32 dev kube-ipvs0"],
  });
  assert.deepEqual(lines(there, program(B)), {
    newEntries: ["add KUBE-CLUSTER-IP 10.96.0.2,tcp:80 -exist"],
    servers: ["-A -t 10.96.0.2:80 -s rr"],
    newAddresses: ["address replace 10.96.0.2/32 dev kube-ipvs0"],
    oldAddresses: ["address delete 10.96.0.1/32 dev kube-ipvs0"],
    oldServers: ["-D -t 10.96.0.1:80"],
    oldEntries: ["del KUBE-CLUSTER-IP 10.96.0.1,tcp:80 -exist"],
  });
  const sticky = { ...A, persistentSeconds: 60 };
  assert.deepEqual(lines(there, program(sticky)), {
    servers: ["-E -t 10.96.0.1:80 -s rr -p 60"],
  });
});

Deno.test("[10.42] a TCP endpoint that is gone gets weight 0 until its connections end; a UDP one goes at once", () => {
  const udp = { ...A, protocol: "UDP" } as const;
  const there = installedOf(program(A, udp));
  const moved = { realServers: real("10.244.0.3") };
  const wanted = program({ ...A, ...moved }, { ...udp, ...moved });
  const change = difference(there, wanted);
  assert.deepEqual(change.servers, [
    "-a -t 10.96.0.1:80 -r 10.244.0.3:8080 -m -w 1",
    "-e -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 0",
    "-a -u 10.96.0.1:80 -r 10.244.0.3:8080 -m -w 1",
    "-d -u 10.96.0.1:80 -r 10.244.0.2:8080",
  ]);
  // Once more: it has that weight already.
  assert.ok(isNothing(difference(change.after, wanted)));
  const [draining, ...others] = drainingIn(change.after, wanted);
  assert.deepEqual(others, []);
  assert.deepEqual(draining, {
    server: "-t 10.96.0.1:80",
    realServer: "10.244.0.2:8080",
  });
  assert.ok(draining !== undefined);
  const ended = without(change.after, [draining]);
  assert.deepEqual(ended, installedOf(wanted));
  // It comes back before it is removed.
  assert.deepEqual(
    lines(change.after, program(A)).servers?.[0],
    [
      "-e -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1",
    ][0],
  );
});

Deno.test("[3.5] a weight of an earlier run becomes 1 again", () => {
  const text = "-A -t 10.96.0.1:80 -s rr\n" +
    "-a -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 0\n";
  const there = {
    ...installedOf(program(A)),
    servers: parseServers(text, "IPv4"),
  };
  assert.deepEqual(lines(there, program(A)), {
    servers: ["-e -t 10.96.0.1:80 -r 10.244.0.2:8080 -m -w 1"],
  });
});

Deno.test("[8.24] virtual servers that nobody wants go, but for those in excludeCIDRs", () => {
  const text = "-A -t 192.0.2.1:80 -s wlc\n-A -t 198.51.100.1:80 -s wlc\n";
  const there = {
    ...installedOf(program(A)),
    servers: new Map([
      ...installedOf(program(A)).servers,
      ...parseServers(text, "IPv4"),
    ]),
  };
  const exclude = ["198.51.100.0/24"];
  assert.deepEqual(lines(there, program(A), exclude), {
    oldServers: ["-D -t 192.0.2.1:80"],
  });
  const { after } = difference(there, program(A), exclude);
  assert.deepEqual(drainingIn(after, program(A)), []);
});

Deno.test("what programs print is read as what was written", () => {
  const wanted = program(
    A,
    server("10.96.0.2", { persistentSeconds: 10_800, protocol: "UDP" }),
    server("10.96.0.3", { scheduler: "mh", schedulerFlags: "mh-port" }),
  );
  const printed = ipvsadmText(wanted)
    .replace("-p 10800", "-p 10800 -M 255.255.255.255") +
    "-A -f 7 -s rr\n-a -f 7 -r 10.244.0.9:0 -g -w 1\n" +
    "-A -t [fd00::1]:80 -s rr\n";
  const json = JSON.stringify([{
    addr_info: [
      ...wanted.addresses.map((local) => ({ local, scope: "global" })),
      { local: "fd00::1", scope: "global" },
      { local: "fe80::1", scope: "link" },
    ],
  }]);
  assert.match(addressesText(wanted), /^link add/);
  const there: Installed = {
    servers: parseServers(printed, "IPv4"),
    sets: parseSets(
      `${ipsetText(wanted)}create other hash:ip\nadd other 10.0.0.1\n`,
      (name) => name === "KUBE-CLUSTER-IP",
    ),
    addresses: parseAddresses(json, "IPv4"),
  };
  assert.deepEqual(there, installedOf(wanted));
  assert.deepEqual([...parseServers(printed, "IPv6").keys()], [
    "-t [fd00::1]:80",
  ]);
  assert.deepEqual([...parseAddresses(json, "IPv6")], ["fd00::1"]);
  assert.deepEqual(parseAddresses("", "IPv4"), new Set());
});

Deno.test("parseConnections() counts active and inactive ones", () => {
  const listing = `IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn
TCP  10.96.0.1:80 rr persistent 10800
  -> 10.244.0.2:8080              Masq    1      2          3
  -> 10.244.0.3:8080              Masq    0      0          0
UDP  10.96.0.1:80 rr
  -> 10.244.0.2:8080              Masq    1      0          4
`;
  assert.deepEqual(Object.fromEntries(parseConnections(listing)), {
    "-t 10.96.0.1:80 10.244.0.2:8080": 5,
    "-t 10.96.0.1:80 10.244.0.3:8080": 0,
    "-u 10.96.0.1:80 10.244.0.2:8080": 4,
  });
});

Deno.test("ownServers() are those that the sets know", () => {
  const installed: Installed = {
    servers: parseServers(
      [
        "-A -t 10.96.0.1:80 -s rr",
        "-A -t 10.96.0.1:81 -s rr",
        "-A -t 192.0.2.7:30080 -s rr",
        "-A -u 192.0.2.7:30080 -s rr",
        "-A -t 192.0.2.7:8080 -s wlc",
        "-A --sctp-service 192.0.2.7:30090 -s rr",
      ].join("\n"),
      "IPv4",
    ),
    sets: new Map([
      ["KUBE-CLUSTER-IP", new Set(["10.96.0.1,tcp:80"])],
      ["KUBE-NODE-PORT-TCP", new Set(["30080"])],
      ["KUBE-NODE-PORT-SCTP-HASH", new Set(["192.0.2.7,sctp:30090"])],
    ]),
    addresses: new Set(["10.96.0.1"]),
  };
  assert.deepEqual(ownServers(installed, "IPv4"), [
    "-t 10.96.0.1:80",
    "-t 192.0.2.7:30080",
    "--sctp-service 192.0.2.7:30090",
  ]);
});
