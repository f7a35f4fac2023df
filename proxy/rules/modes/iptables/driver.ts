/**
 * iptables mode as something that runs: a programmer for each family, the one
 * kernel parameter it needs, and its mark.
 *
 * @module
 */
import { type CommandRunner, systemRunner } from "../../command.ts";
import type { KernelModeDriver } from "../kernel_programmer.ts";
import { coversLoopback } from "../mode_input.ts";
import { readMark, removeMark, writeMark } from "./mark.ts";
import { IptablesProgrammer } from "./programmer.ts";

export function iptablesDriver(
  runner: CommandRunner = systemRunner,
): KernelModeDriver {
  const programmers = [
    new IptablesProgrammer("IPv4", runner),
    new IptablesProgrammer("IPv6", runner),
  ];
  const mode = "iptables";
  return {
    mode,
    programmers,
    // Fact 6.9: packets from 127.0.0.1 may leave by another interface then.
    // `primary` is never loopback, whatever the Node's address is.
    sysctls: ({ localhostNodePorts, nodePorts }) =>
      localhostNodePorts && !nodePorts?.primary && coversLoopback(nodePorts)
        ? [{
          name: "net.ipv4.conf.all.route_localnet",
          value: "1",
          without: "NodePorts do not work on 127.0.0.1",
        }]
        : [],
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
