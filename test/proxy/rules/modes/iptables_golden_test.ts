/**
 * The compiled program against what a real kube-proxy 1.36 loaded for the same
 * objects: as text, and as the kernel lists it.
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { IpFamily } from "../../../../proxy/ip.ts";
import { compileIptables } from "../../../../proxy/rules/modes/iptables/compile.ts";
import { programText } from "../../../../proxy/rules/modes/iptables/text.ts";
import { goldenInput, goldenText } from "../../../support/golden.ts";
import {
  iptablesListing,
  sortedListing,
} from "../../../support/iptables_listing.ts";
import { runKubePortal } from "../../../support/kube_portal.ts";
import { inputOf, serviceClusters } from "../../../support/mode_inputs.ts";
import { program, testWith } from "../../../support/needs.ts";
import { netns, Network } from "../../../support/netns.ts";
import { temporaryFolder } from "../../../support/temporary_folder.ts";

const FAMILIES: readonly IpFamily[] = ["IPv4", "IPv6"];
const COMMANDS = { IPv4: "iptables", IPv6: "ip6tables" } as const;

/** The tables that were recorded; of IPv4 not mangle, which has the canary. */
function golden(family: IpFamily): string {
  return family === "IPv6"
    ? goldenText("1.36-iptables.ip6tables.txt")
    : "*mangle\n:KUBE-PROXY-CANARY - [0:0]\nCOMMIT\n" +
      goldenText("1.36-iptables.iptables-filter.txt") +
      goldenText("1.36-iptables.iptables-nat.txt");
}

/** Without what only kernels with nfacct have. */
function withoutNfacct(text: string): string {
  return text.split("\n")
    .filter((line) => !line.includes("localhost_nps_accepted_pkts"))
    .join("\n").replaceAll(/ -m nfacct --nfacct-name +\S+/g, "");
}

for (const family of FAMILIES) {
  Deno.test(`[10.10, 10.11, 10.14, 10.15, 10.17, 10.19, 10.20, 10.21, 10.22, 10.23, 10.24, 10.25, 10.26, 10.27] compileIptables() makes of the golden cluster what kube-proxy 1.36 makes (${family})`, () => {
    const input = goldenInput("iptables", family);
    const counting = compileIptables(input, { nfacct: true });
    assert.deepEqual(
      sortedListing(iptablesListing(programText(counting, { jumps: true }))),
      sortedListing(iptablesListing(golden(family))),
    );
    const plain = programText(compileIptables(input), { jumps: true });
    assert.deepEqual(
      sortedListing(iptablesListing(plain)),
      sortedListing(iptablesListing(withoutNfacct(golden(family)))),
    );
  });
}

testWith(
  [netns, program("iptables"), program("ip6tables")],
  "[10.1, 10.13] render prints what loads as it is and lists as kube-proxy's rules do",
  async () => {
    await using net = await Network.create({ pods: 0 });
    await using folder = await temporaryFolder();
    for (const name of ["services", "endpointslices", "nodes"]) {
      await folder.write(`${name}.json`, goldenText(`input-${name}.json`));
    }
    for (const family of FAMILIES) {
      const { stdout, stderr } = await runKubePortal([
        "render",
        "--proxy-mode=iptables",
        `--ip-family=${family.toLowerCase()}`,
        "--cluster-cidr=10.244.0.0/16",
        "--hostname-override=kp",
        "--jumps",
        `--manifests=${folder.path}`,
      ]);
      assert.equal(stderr, "");
      const command = COMMANDS[family];
      // Somebody else's policy and rule stay as they are.
      const others = ["-P", "FORWARD", "DROP"] as const;
      await net.node.run([command, "-w", ...others]);
      await net.node.run([`${command}-restore`, "-w", "--noflush"], {
        stdin: stdout,
      });
      const saved = await net.node.run([`${command}-save`]);
      assert.match(saved, /^:FORWARD DROP/m);
      assert.deepEqual(
        sortedListing(iptablesListing(saved)),
        sortedListing(iptablesListing(withoutNfacct(golden(family)))),
      );
    }
  },
);

testWith(
  [netns, program("iptables"), program("ip6tables")],
  "a program of any Services loads, and the kernel lists it as it was written",
  async () => {
    await using net = await Network.create({ pods: 0 });
    await fc.assert(
      fc.asyncProperty(
        serviceClusters,
        fc.constantFrom(...FAMILIES),
        fc.record({
          masqueradeAll: fc.boolean(),
          masqueradeBit: fc.constantFrom(0, 14, 31),
          localhostNodePorts: fc.boolean(),
          detectLocalMode: fc.constantFrom(
            "ClusterCIDR",
            "NodeCIDR",
            "BridgeInterface",
            "InterfaceNamePrefix",
          ),
          bridgeInterface: fc.constant("cbr0"),
          interfaceNamePrefix: fc.constant("veth"),
        }),
        async (cluster, family, settings) => {
          const input = inputOf({ ...cluster, family, settings });
          const text = programText(compileIptables(input), { jumps: true });
          const command = COMMANDS[family];
          await net.node.run([`${command}-restore`, "-w"], { stdin: text });
          const saved = await net.node.run([`${command}-save`]);
          assert.deepEqual(iptablesListing(saved), iptablesListing(text));
        },
      ),
      { numRuns: 30 },
    );
  },
);
