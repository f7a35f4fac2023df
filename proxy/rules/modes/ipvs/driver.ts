/**
 * ipvs mode as something that runs: a programmer for each family, the kernel
 * parameters it needs, and its mark, which is among the rules.
 *
 * @module
 */
import { type CommandRunner, systemRunner } from "../../command.ts";
import { readMark, removeMark, writeMark } from "../iptables/mark.ts";
import type { KernelModeDriver, Sysctl } from "../kernel_programmer.ts";
import { IpvsProgrammer } from "./programmer.ts";

/** Fact 10.43. */
const SYSCTLS: readonly Sysctl[] = [
  {
    name: "net.ipv4.vs.conntrack",
    value: "1",
    without: "nothing that goes through IPVS is masqueraded",
  },
  {
    name: "net.ipv4.vs.expire_nodest_conn",
    value: "1",
    without:
      "clients of an endpoint that is gone wait instead of being refused",
  },
  {
    name: "net.ipv4.vs.expire_quiescent_template",
    value: "1",
    without: "session affinity keeps clients at an endpoint that is gone",
  },
  {
    name: "net.ipv4.ip_forward",
    value: "1",
    without: "packets do not leave for pods",
  },
];

const STRICT_ARP: readonly Sysctl[] = [
  {
    name: "net.ipv4.conf.all.arp_ignore",
    value: "1",
    without: "the node answers ARP for Service addresses",
  },
  {
    name: "net.ipv4.conf.all.arp_announce",
    value: "2",
    without: "the node's ARP may tell of Service addresses",
  },
];

/** Of kernels before 5.9, where it delays connections from a used port. */
const REUSE_MODE: Sysctl = {
  name: "net.ipv4.vs.conn_reuse_mode",
  value: "0",
  without: "connections from a port that was just used are delayed by a second",
};

function needsReuseMode(programmers: readonly IpvsProgrammer[]): boolean {
  const release = programmers.map((each) => each.kernelRelease)
    .find((each) => each !== "") ?? "";
  const [, major, minor] = /^(\d+)\.(\d+)/.exec(release) ?? [];
  return major !== undefined &&
    (Number(major) < 5 || Number(major) === 5 && Number(minor) < 9);
}

/** ipvs mode as something that runs, on this kernel or not: starting it finds out. */
export function ipvsDriver(
  runner: CommandRunner = systemRunner,
): KernelModeDriver {
  const programmers = [
    new IpvsProgrammer("IPv4", runner),
    new IpvsProgrammer("IPv6", runner),
  ];
  const mode = "ipvs";
  return {
    mode,
    programmers,
    sysctls: ({ ipvs }) => [
      ...SYSCTLS,
      ...(needsReuseMode(programmers) ? [REUSE_MODE] : []),
      ...(ipvs.strictArp ? STRICT_ARP : []),
    ],
    readMark: (signal) => readMark(mode, { runner, signal }),
    async writeMark(originals, signal) {
      for (const { programs } of programmers) {
        if (programs === undefined) continue;
        await writeMark(programs, { mode, originals }, { runner, signal });
      }
    },
    removeMark: (signal) => removeMark({ runner, signal }),
  };
}
