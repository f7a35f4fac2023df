/**
 * What ipvs mode loads, in a kernel that has IPVS: a virtual machine with
 * Debian's.
 */
import assert from "node:assert/strict";
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

testWith(
  needs,
  "[10.40, 10.41, 10.44, 10.45, 10.46] what render prints makes IPVS serve addon-nexus",
  async (t) => {
    await using guest = await bootNode({ ports: Object.values(NEXUS_PORTS) });
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
  },
);

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
