/**
 * What ipvs mode loads, in a kernel that has IPVS: a virtual machine with
 * Debian's.
 */
import assert from "node:assert/strict";
import { bundle, programFlags } from "../build/program.ts";
import { guest as needsGuest } from "../support/guest.ts";
import {
  ask,
  bootNode,
  NODE_IP,
  PODS,
  REFUSED,
} from "../support/guest_node.ts";
import type { Guest } from "../support/guest.ts";
import {
  kubeNode,
  type KubeObject,
  kubeService,
  kubeSlice,
  manifest,
  type Ports,
} from "../support/kube_objects.ts";
import { runKubePortal } from "../support/kube_portal.ts";
import { program, testWith } from "../support/needs.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const needs = [
  ...needsGuest,
  program("ipvsadm"),
  program("ipset"),
  program("iptables"),
  program("curl"),
];

/** The Service of the article that this project grew from. */
const NODE = "node";
const NEXUS = "10.96.20.10";
const NEXUS6 = "fd00:96::10";
const NEXUS_PORTS: Ports = {
  "addon-nexus-tcp-8081": 8081,
  "addon-nexus-tcp-5000": 5000,
  "addon-nexus-tcp-5500": 5500,
};

function manifests(): string {
  const endpoints = PODS.map(({ ipv4 }) => ipv4);
  const endpoints6 = PODS.map(({ ipv6 }) => ipv6);
  const ports6 = { http: 8081 };
  return manifest(
    kubeService("addon-nexus", NEXUS, NEXUS_PORTS),
    kubeSlice("addon-nexus", endpoints, NEXUS_PORTS, NODE),
    kubeService("six", NEXUS6, ports6),
    kubeSlice("six", endpoints6, ports6, NODE),
    kubeService("nobody", "10.96.20.50", { http: 80 }),
  );
}

testWith(needs, "IPVS in a kernel that has it", async (t) => {
  const ports = Object.values(NEXUS_PORTS);
  await using guest = await bootNode({ ports, memoryMb: 512 });
  await t.step(
    "[10.40, 10.41, 10.44, 10.45, 10.46] what render prints makes it serve addon-nexus",
    (t) => rendered(t, guest),
  );
  await t.step(
    "[8.23, 8.24, 10.42, 10.43] --proxy-mode ipvs takes over from it, follows, and takes it all away",
    (t) => running(t, guest),
  );
});

async function rendered(t: Deno.TestContext, guest: Guest): Promise<void> {
  await using folder = await temporaryFolder();
  await folder.write("services.yaml", manifests());
  const render = async (...flags: string[]) => {
    const { code, stdout, stderr } = await runKubePortal([
      "render",
      ...["--proxy-mode", "ipvs", "--manifests", folder.path],
      ...["--cluster-cidr", "10.244.0.0/16,fd00:244::/64"],
      ...["--hostname-override", NODE],
      ...flags,
    ]);
    assert.equal(code, 0, stderr);
    return stdout;
  };
  // What fact 10.43 says: without it IPVS tells conntrack nothing, and nobody
  // masquerades for it.
  await guest.run("sysctl -q -w net.ipv4.vs.conntrack=1");
  await load(guest, await render("--jumps"));

  await t.step("ipvsadm -Ln shows three virtual servers", async () => {
    assert.deepEqual(virtualServers(await guest.run("ipvsadm -Ln")), {
      ...Object.fromEntries([5000, 5500, 8081].map((port) => [
        `TCP ${NEXUS}:${port} rr`,
        PODS.map(({ ipv4 }) => `${ipv4}:${port} Masq 1`),
      ])),
      "TCP 10.96.20.50:80 rr": [],
    });
  });
  await t.step("the kernel prints what it was given", async () => {
    const lines = (text: string) => text.trim().split("\n").sort();
    assert.deepEqual(
      lines(await guest.run("ipvsadm -Sn")),
      lines(await render("--part", "ipvsadm")),
    );
    const sets = await render("--part", "ipset");
    assert.deepEqual(
      lines(await guest.run("ipset save | grep ^add")),
      lines(sets).filter((line) => line.startsWith("add"))
        .map((line) => line.replace(" -exist", "")),
    );
  });
  for (const from of [undefined, ...PODS.map(({ name }) => name)]) {
    await t.step(
      `${from ?? "the node"} reaches every endpoint of each port, itself too`,
      async () => {
        for (const port of Object.values(NEXUS_PORTS)) {
          const address = `${NEXUS}:${port}`;
          const answers = new Set([
            await ask(guest, address, from),
            await ask(guest, address, from),
          ]);
          assert.deepEqual([...answers].sort(), ["pod1", "pod2"], address);
        }
      },
    );
  }
  await t.step("all of them went through IPVS", async () => {
    const table = await guest.run("ipvsadm -Lnc");
    const count = (port: number) =>
      table.split("\n").filter((line) => line.includes(` ${NEXUS}:${port} `))
        .length;
    // Two each of the node and both pods.
    const counts = Object.values(NEXUS_PORTS).map(count);
    assert.deepEqual(counts, [6, 6, 6], table);
  });
  await t.step("[10.40] IPv6 has a program of its own", async () => {
    await load(guest, await render("--jumps", "--ip-family", "ipv6"));
    for (const from of [undefined, ...PODS.map(({ name }) => name)]) {
      const answers = new Set([
        await ask(guest, `[${NEXUS6}]:8081`, from),
        await ask(guest, `[${NEXUS6}]:8081`, from),
      ]);
      assert.deepEqual([...answers].sort(), ["pod1", "pod2"], from);
    }
  });
  await t.step("a Service without endpoints refuses", async () => {
    assert.equal(await ask(guest, "10.96.20.50:80", "pod1"), REFUSED);
  });
  await t.step(
    "other ports of a Service address are rejected, though the host listens",
    async () => {
      await guest.run("busybox httpd -p 9999 -h /run/pod1");
      assert.equal(await ask(guest, `${NODE_IP}:9999`, "pod1"), "pod1");
      assert.equal(await ask(guest, `${NEXUS}:9999`, "pod1"), REFUSED);
    },
  );
}

/** The proxy in the guest, and what it said. */
const LOG = "/run/kube-portal.log";

/** Virtual servers of somebody else: one is to stay. */
const OTHERS = "198.51.100.99:80";
const LEFTOVER = "192.0.2.99:80";

async function running(t: Deno.TestContext, guest: Guest): Promise<void> {
  const portal = await kubePortal(guest);
  const apply = async (...objects: readonly KubeObject[]) => {
    await Deno.writeTextFile(
      `${guest.folder}/services.yaml`,
      manifest(kubeNode(NODE), ...objects),
    );
    await guest.run(
      "mkdir -p /run/manifests && " +
        "cp /run/share/services.yaml /run/manifests/new && " +
        "mv /run/manifests/new /run/manifests/services.yaml",
    );
  };
  const ports = { http: 8081 };
  const [pod1, pod2] = PODS.map(({ ipv4 }) => ipv4) as [string, string];
  const both = [
    kubeService("web", NEXUS, ports),
    kubeService("quiet", "10.96.20.60", ports),
  ];
  await apply(
    ...both,
    kubeSlice("web", [pod1, pod2], ports, NODE),
    kubeSlice("quiet", [pod1, pod2], ports, NODE),
  );
  await guest.run(
    `ipvsadm -A -t ${OTHERS} -s rr && ipvsadm -A -t ${LEFTOVER} -s rr`,
  );
  await guest.run("sysctl -q -w net.ipv4.vs.conntrack=0");
  await guest.run(
    `${portal} run --proxy-mode ipvs --manifests /run/manifests ` +
      `--hostname-override ${NODE} --cluster-cidr 10.244.0.0/16 ` +
      "--ipvs-scheduler lc --ipvs-exclude-cidrs 198.51.100.0/24 " +
      `--ipvs-sync-period 5s > ${LOG} 2>&1 & echo $! > /run/pid`,
  );

  await t.step("at the start: everything, and parameters", async () => {
    await waitFor(guest, `grep -q Ready ${LOG}`);
    assert.deepEqual(virtualServers(await guest.run("ipvsadm -Ln")), {
      [`TCP ${OTHERS} rr`]: [],
      [`TCP ${NEXUS}:8081 lc`]: [
        `${pod1}:8081 Masq 1`,
        `${pod2}:8081 Masq 1`,
      ],
      ["TCP 10.96.20.60:8081 lc"]: [
        `${pod1}:8081 Masq 1`,
        `${pod2}:8081 Masq 1`,
      ],
    });
    assert.equal(
      await guest.run("cat /proc/sys/net/ipv4/vs/conntrack"),
      "1\n",
    );
    for (const from of [undefined, "pod1"]) {
      const answer = await ask(guest, `${NEXUS}:8081`, from);
      assert.match(answer, /^pod[12]$/);
    }
  });
  await t.step(
    "an endpoint that is gone only ends its connections",
    async () => {
      // Four that stay open: each pod has some.
      await guest.run(
        "for i in 1 2 3 4; do (sleep 600 | ip netns exec pod2 busybox nc " +
          `${NEXUS} 8081 > /dev/null) & done`,
      );
      await waitFor(
        guest,
        `[ $(ipvsadm -Lnc | grep -c "ESTABLISHED.*${pod1}:8081") -gt 0 ]`,
      );
      await apply(
        ...both,
        kubeSlice("web", [pod2], ports, NODE),
        kubeSlice("quiet", [pod2], ports, NODE),
      );
      await waitFor(
        guest,
        `! ipvsadm -Ln -t 10.96.20.60:8081 | grep -q "${pod1}"`,
      );
      assert.deepEqual(virtualServers(await guest.run("ipvsadm -Ln")), {
        [`TCP ${OTHERS} rr`]: [],
        [`TCP ${NEXUS}:8081 lc`]: [
          `${pod1}:8081 Masq 0`,
          `${pod2}:8081 Masq 1`,
        ],
        // Nobody was there: nothing is waited for.
        ["TCP 10.96.20.60:8081 lc"]: [`${pod2}:8081 Masq 1`],
      });
      for (let i = 0; i < 3; i++) {
        assert.equal(await ask(guest, `${NEXUS}:8081`), "pod2");
      }
    },
  );
  await t.step("what somebody removes is there again", async () => {
    await guest.run(`ipvsadm -D -t ${NEXUS}:8081`);
    await waitFor(guest, `ipvsadm -Ln | grep -q "${NEXUS}:8081 lc"`);
    await guest.run(
      "iptables -t nat -D POSTROUTING -j KUBE-POSTROUTING " +
        '-m comment --comment "kubernetes postrouting rules"',
    );
    await waitFor(
      guest,
      "iptables -t nat -S POSTROUTING | grep -q KUBE-POSTROUTING",
    );
  });
  await t.step(
    "it stays when the proxy ends, and cleanup leaves nothing",
    async () => {
      await guest.run("kill $(cat /run/pid)");
      await waitFor(guest, "! kill -0 $(cat /run/pid)");
      assert.equal(await ask(guest, `${NEXUS}:8081`, "pod1"), "pod2");
      const { code, output } = await guest.try(
        `${portal} cleanup 2>&1`,
        WAIT_MS,
      );
      assert.equal(code, 0, output);
      // One server of somebody else's; no rules; what parameters were.
      assert.equal(
        await everything(guest),
        `-A -t ${OTHERS} -s rr\n0\n0\n0\n0\n0\n`,
        output,
      );
    },
  );
}

/** What ipvs mode could write, as programs print it. */
async function everything(guest: Guest): Promise<string> {
  return await guest.run([
    "ipvsadm -Sn",
    "ipset list -n",
    "ip -o link | grep -c kube-ipvs0",
    "iptables-save | grep -c KUBE-",
    "ip6tables-save | grep -c KUBE-",
    "cat /proc/sys/net/ipv4/vs/conntrack",
    "cat /proc/sys/net/ipv4/vs/expire_nodest_conn",
    "true",
  ].join("; "));
}

/** More than a busy machine takes to start the program in its guest. */
const WAIT_MS = 300_000;

/** Waits until a command succeeds. */
async function waitFor(guest: Guest, condition: string): Promise<void> {
  try {
    await guest.run(`until ${condition}; do sleep 1; done`, WAIT_MS);
  } catch (error) {
    const { output } = await guest.try(`kill -9 $(cat /run/pid); cat ${LOG}`);
    throw new Error(output, { cause: error });
  }
}

/**
 * The command line that starts the program in the guest: as one file, since an
 * emulated machine takes long to read hundreds.
 */
async function kubePortal({ folder }: Guest): Promise<string> {
  await bundle(`${folder}/kube-portal.js`);
  const words = [Deno.execPath(), "run", ...programFlags()];
  return `${words.join(" ")} /run/share/kube-portal.js`;
}

/** Runs a script in the guest. */
async function load(guest: Guest, script: string): Promise<void> {
  await Deno.writeTextFile(`${guest.folder}/load.sh`, script);
  await guest.run("sh -e /run/share/load.sh");
}

/** What `ipvsadm -Ln` shows: `TCP ADDRESS SCHEDULER` → real servers. */
function virtualServers(listing: string): Record<string, string[]> {
  const found: Record<string, string[]> = {};
  let last: string[] = [];
  for (const line of listing.split("\n").slice(3)) {
    const words = line.trim().split(/ +/);
    if (words[0] === "->") {
      last.push(`${words[1]} ${words[2]} ${words[3]}`);
      last.sort();
    } else if (words.length >= 3) {
      found[words.slice(0, 3).join(" ")] = last = [];
    }
  }
  return found;
}
