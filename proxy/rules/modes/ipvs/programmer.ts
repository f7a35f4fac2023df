/**
 * Keeps one family of the kernel at an ipvs program: compiles it, and writes the
 * difference to what is there. What an earlier run or a real kube-proxy left is
 * adopted. In: `ModeInput`. Out: lines for four programs.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";
import { SteeringError } from "../../../steering.ts";
import { CommandError, type CommandRunner } from "../../command.ts";
import {
  chooseIptables,
  iptablesCandidates,
  type IptablesPrograms,
  iptablesReason,
  readIfThere,
  readRules,
  restoreRules,
} from "../../iptables_programs.ts";
import { removalText } from "../iptables/cleanup_text.ts";
import type {
  KernelProgrammer,
  ProgramResult,
  ProgramScope,
} from "../kernel_programmer.ts";
import type { IpvsSettings, ModeInput } from "../mode_input.ts";
import { compileIpvs } from "./compile.ts";
import {
  type Difference,
  difference,
  drainingIn,
  isNothing,
  without,
} from "./difference.ts";
import { type Installed, NOTHING_INSTALLED } from "./installed.ts";
import {
  ipvsObstacle,
  kernelRelease,
  readInstalled,
  removeDrained,
  removeInstalled,
  setTimeouts,
  writeDifference,
} from "./kernel.ts";
import type { IpvsProgram } from "./program.ts";
import { areRulesThere, isOwnChain, missingJumps } from "./rules_state.ts";
import { tablesText } from "./text.ts";

interface Options {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

export class IpvsProgrammer implements KernelProgrammer {
  readonly family: IpFamily;
  readonly #runner: CommandRunner;
  #programs: IptablesPrograms | undefined;
  /** As last written; with real servers that only end their connections. */
  #installed: Installed = NOTHING_INSTALLED;
  #program: IpvsProgram | undefined;
  #rules = "";
  #kernelRelease = "";
  #timeouts = "0,0,0";

  constructor(family: IpFamily, runner: CommandRunner) {
    this.family = family;
    this.#runner = runner;
  }

  /** Which iptables is used; `undefined` before `obstacle()` found one. */
  get programs(): IptablesPrograms | undefined {
    return this.#programs;
  }

  /** The kernel's release; empty before `obstacle()`. */
  get kernelRelease(): string {
    return this.#kernelRelease;
  }

  async obstacle(signal: AbortSignal): Promise<string | undefined> {
    const options = this.#options(signal);
    const why = await ipvsObstacle(this.family, options);
    if (why !== undefined) return why;
    try {
      const { programs } = await chooseIptables(this.family, {
        ...options,
        ownChains: ({ chains }) => chains.has("nat KUBE-SERVICES") ? 1 : 0,
      });
      // What can be made, empty, can be filled.
      const text = "*filter\n:KUBE-IPVS-FILTER - [0:0]\nCOMMIT\n";
      await restoreRules(programs, text, options);
      this.#programs = programs;
      this.#kernelRelease = await kernelRelease(options);
      return undefined;
    } catch (error) {
      if (error instanceof CommandError) return iptablesReason(error);
      if (error instanceof SteeringError) return error.message;
      throw error;
    }
  }

  async program(
    input: ModeInput,
    { full }: ProgramScope,
    signal: AbortSignal,
  ): Promise<ProgramResult> {
    const options = this.#options(signal);
    const program = compileIpvs(input);
    await this.#setTimeouts(input.ipvs, options);
    if (full) this.#installed = await readInstalled(this.family, options);
    const { excludeCidrs } = input.ipvs;
    const change = difference(this.#installed, program, excludeCidrs);
    const rules = await this.#rulesText(program, { full, options });
    await writeDifference(change, {
      ...options,
      rules: async () => {
        if (rules === "") return;
        await restoreRules(this.#chosen(), rules, options);
      },
    });
    this.#installed = change.after;
    this.#program = program;
    this.#rules = tablesText(program, []);
    await this.upkeep(signal);
    return { written: written(change, rules), total: total(program) };
  }

  /** All rules as one restore; empty where they are as they were. */
  async #rulesText(
    program: IpvsProgram,
    { full, options }: { full: boolean; options: Options },
  ): Promise<string> {
    if (!full) {
      const text = tablesText(program, []);
      return text === this.#rules ? "" : text;
    }
    const loaded = await readRules(this.#chosen(), options);
    return tablesText(program, missingJumps(loaded, program.jumps));
  }

  /** Seconds, as ipvsadm takes them; what is 0 stays as it is (fact 8.26). */
  async #setTimeouts(
    { tcpTimeoutMs, tcpFinTimeoutMs, udpTimeoutMs }: IpvsSettings,
    options: Options,
  ): Promise<void> {
    const seconds = [tcpTimeoutMs, tcpFinTimeoutMs, udpTimeoutMs]
      .map((ms) => Math.ceil(ms / 1_000)) as [number, number, number];
    // The table of timeouts is one for both families.
    if (this.family !== "IPv4" || seconds.join() === this.#timeouts) return;
    await setTimeouts(seconds, options);
    this.#timeouts = seconds.join();
  }

  /** Removes endpoints that are gone when their connections have ended. */
  async upkeep(signal: AbortSignal): Promise<void> {
    if (this.#program === undefined) return;
    const draining = drainingIn(this.#installed, this.#program);
    const ended = await removeDrained(draining, this.#options(signal));
    this.#installed = without(this.#installed, ended);
  }

  async isIntact(signal: AbortSignal): Promise<boolean> {
    const program = this.#program;
    if (program === undefined) return false;
    const options = this.#options(signal);
    try {
      const loaded = await readRules(this.#chosen(), options);
      if (!areRulesThere(loaded, program)) return false;
      const there = await readInstalled(this.family, options);
      // What drains, and what is excluded, is there as before.
      const known = difference(there, program);
      return isNothing({ ...known, oldServers: [] });
    } catch (error) {
      if (error instanceof CommandError) return false;
      throw error;
    }
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const options = this.#options(signal);
    for (const programs of iptablesCandidates(this.family)) {
      const loaded = await readIfThere(programs, options);
      const text = loaded === undefined ? "" : removalText(loaded, isOwnChain);
      if (text !== "") await restoreRules(programs, text, options);
    }
    await removeInstalled(this.family, options);
    this.#installed = NOTHING_INSTALLED;
    this.#program = undefined;
    this.#rules = "";
  }

  #options(signal: AbortSignal): Options {
    return { runner: this.#runner, signal };
  }

  #chosen(): IptablesPrograms {
    if (this.#programs === undefined) {
      throw new TypeError("obstacle() has not found an iptables");
    }
    return this.#programs;
  }
}

function written(
  change: Difference,
  rules: string,
): Readonly<Record<string, number>> {
  return {
    ipset: change.newEntries.length + change.oldEntries.length,
    ipvs: change.servers.length + change.oldServers.length,
    iptables: rules.split("\n").filter((line) => /^-[AI] /.test(line)).length,
    addresses: change.newAddresses.length + change.oldAddresses.length,
  };
}

function total(program: IpvsProgram): Readonly<Record<string, number>> {
  const { virtualServers, sets, tables, addresses } = program;
  const sum = (numbers: readonly number[]) =>
    numbers.reduce((all, each) => all + each, 0);
  return {
    ipset: sum(sets.map(({ entries }) => entries.length)),
    ipvs: sum(virtualServers.map(({ realServers }) => 1 + realServers.length)),
    iptables: sum(
      tables.flatMap(({ chains }) => chains.map(({ rules }) => rules.length)),
    ),
    addresses: addresses.length,
  };
}
