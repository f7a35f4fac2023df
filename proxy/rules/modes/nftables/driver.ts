/**
 * nftables mode as something that runs: a programmer for each family, no kernel
 * parameters, and its mark.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";
import {
  CommandError,
  type CommandRunner,
  systemRunner,
} from "../../command.ts";
import { isWithoutNft, runTransaction } from "../../nft_program.ts";
import type { KernelModeDriver } from "../kernel_programmer.ts";
import { isMarked, markCommands, unmarkCommands } from "./mark.ts";
import { NftablesProgrammer } from "./nftables_programmer.ts";

const FAMILIES: readonly IpFamily[] = ["IPv4", "IPv6"];

/** @param now milliseconds, of any beginning */
export function nftablesDriver(
  runner: CommandRunner = systemRunner,
  now: () => number = () => performance.now(),
): KernelModeDriver {
  return {
    mode: "nftables",
    programmers: FAMILIES.map((family) =>
      new NftablesProgrammer({ family, runner, now })
    ),
    // NodePorts are never on loopback, so there is nothing to set (fact 6.12).
    sysctls: () => [],
    async readMark(signal) {
      try {
        // All tables: to list one by its name takes seconds where it is long.
        const command = ["nft", "-t", "list", "chains"] as const;
        const listing = await runner.run([...command], { signal });
        return FAMILIES.some((family) => isMarked(listing, family))
          ? new Map()
          : undefined;
      } catch (error) {
        if (error instanceof CommandError) return undefined;
        throw error;
      }
    },
    async writeMark(_originals, signal) {
      const refusals: unknown[] = [];
      for (const family of FAMILIES) {
        try {
          await runTransaction(markCommands(family), { runner, signal });
        } catch (error) {
          if (!(error instanceof CommandError)) throw error;
          refusals.push(error);
        }
      }
      // One is enough: a machine need not have both families.
      if (refusals.length === FAMILIES.length) throw refusals[0];
    },
    async removeMark(signal) {
      for (const family of FAMILIES) {
        try {
          await runTransaction(unmarkCommands(family), { runner, signal });
        } catch (error) {
          if (!isWithoutNft(error)) throw error;
        }
      }
    },
  };
}
