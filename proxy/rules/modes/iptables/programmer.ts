/**
 * Keeps one family of the kernel at an iptables program: compiles it, and loads
 * all of it or the part that changed, as one restore each (facts 9.9, 10.1,
 * 10.32). What an earlier run or a real kube-proxy left is adopted: chains are
 * rewritten in place, those of Services that are gone are deleted.
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
import { lineOf, type Ruleset, words } from "../../iptables_text.ts";
import type {
  KernelProgrammer,
  ProgramResult,
  ProgramScope,
} from "../kernel_programmer.ts";
import type { ModeInput } from "../mode_input.ts";
import { chainsOf, cleanupText } from "./cleanup_text.ts";
import { compileIptables, CompileMemory } from "./compile.ts";
import {
  isServiceChain,
  KUBE_FIREWALL,
  KUBE_PROXY_CANARY,
  KUBE_SERVICES,
} from "./names.ts";
import type { BaseRule, IptablesProgram, TableName } from "./program.ts";
import { type RestoreParts, restoreText, ruleCounts } from "./sync_text.ts";
import { ruleText } from "./text.ts";

const LOCK_WAIT_S = "5";

export class IptablesProgrammer implements KernelProgrammer {
  readonly family: IpFamily;
  readonly #runner: CommandRunner;
  readonly #memory = new CompileMemory();
  #programs: IptablesPrograms | undefined;
  /** Service key → its chains, as of the last successful write. */
  #chainsOf = new Map<string, readonly string[]>();

  constructor(family: IpFamily, runner: CommandRunner) {
    this.family = family;
    this.#runner = runner;
  }

  /** Which iptables is used; `undefined` before `obstacle()` found one. */
  get programs(): IptablesPrograms | undefined {
    return this.#programs;
  }

  async obstacle(signal: AbortSignal): Promise<string | undefined> {
    const options = { runner: this.#runner, signal };
    try {
      const { programs } = await chooseIptables(this.family, {
        ...options,
        ownChains: ({ chains }) => chains.has(`nat ${KUBE_SERVICES}`) ? 1 : 0,
      });
      // A chain of ours, empty: what can be made here can be filled.
      await restoreRules(programs, canaryText(), options);
      this.#programs = programs;
      return undefined;
    } catch (error) {
      if (error instanceof CommandError) return iptablesReason(error);
      if (error instanceof SteeringError) return error.message;
      throw error;
    }
  }

  async program(
    input: ModeInput,
    scope: ProgramScope,
    signal: AbortSignal,
  ): Promise<ProgramResult> {
    const program = compileIptables(input, { memory: this.#memory });
    const chains = serviceChains(program);
    const parts = scope.full
      ? await this.#allParts(program, signal)
      : this.#changedParts(scope.changed, chains);
    const { text, written } = restoreText(program, parts);
    await this.#restore(text, signal);
    this.#chainsOf = chains;
    return { written, total: ruleCounts(program) };
  }

  #changedParts(
    changed: ReadonlySet<string>,
    chains: ReadonlyMap<string, readonly string[]>,
  ): RestoreParts {
    const stale = [...changed].flatMap((service) => {
      const now = new Set(chains.get(service));
      return (this.#chainsOf.get(service) ?? []).filter((name) =>
        !now.has(name)
      );
    });
    return {
      services: changed,
      stale,
      missingJumps: {},
      hasFirewall: true,
      isFull: false,
    };
  }

  async #allParts(
    program: IptablesProgram,
    signal: AbortSignal,
  ): Promise<RestoreParts> {
    const loaded = await readRules(this.#chosen(), {
      runner: this.#runner,
      signal,
    });
    const wanted = new Set(
      program.tables.flatMap(({ chains }) => chains.map(({ name }) => name)),
    );
    const stale = chainsOf(loaded.chains, "nat").filter((name) =>
      isServiceChain(name) && !wanted.has(name)
    );
    const missingJumps: Partial<Record<TableName, BaseRule[]>> = {};
    for (const { name, jumps } of program.tables) {
      missingJumps[name] = await this.#missing(name, jumps, { loaded, signal });
    }
    return {
      services: "all",
      stale,
      missingJumps,
      hasFirewall: loaded.chains.has(`filter ${KUBE_FIREWALL}`),
      isFull: true,
    };
  }

  /**
   * Our words for a rule are those of the save; where a version has others, the
   * program itself is asked, since a jump that is there twice is there for ever.
   */
  async #missing(
    table: TableName,
    jumps: readonly BaseRule[],
    { loaded, signal }: { loaded: Ruleset; signal: AbortSignal },
  ): Promise<BaseRule[]> {
    const there = new Set<string>(loaded.rules);
    const missing: BaseRule[] = [];
    for (const jump of jumps) {
      const text = ruleText(jump.chain, jump, this.family);
      if (there.has(`${table} ${lineOf(words(text))}`)) continue;
      if (await this.#knows(table, text, signal)) continue;
      missing.push(jump);
    }
    return missing;
  }

  async #knows(
    table: TableName,
    text: string,
    signal: AbortSignal,
  ): Promise<boolean> {
    const [, ...rule] = words(text);
    return await this.#succeeds(["-t", table, "-C", ...rule], signal);
  }

  async #succeeds(
    args: readonly string[],
    signal: AbortSignal,
  ): Promise<boolean> {
    try {
      await this.#runner.run(
        [this.#chosen().name, "-w", LOCK_WAIT_S, ...args],
        { signal },
      );
      return true;
    } catch (error) {
      if (error instanceof CommandError) return false;
      throw error;
    }
  }

  async #restore(text: string, signal: AbortSignal): Promise<void> {
    try {
      await restoreRules(this.#chosen(), text, {
        runner: this.#runner,
        signal,
      });
    } catch (error) {
      throw error instanceof CommandError ? withLines(error, text) : error;
    }
  }

  async isIntact(signal: AbortSignal): Promise<boolean> {
    for (const table of ["mangle", "nat", "filter"]) {
      const args = ["-t", table, "-S", KUBE_PROXY_CANARY];
      if (!await this.#succeeds(args, signal)) return false;
    }
    return true;
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const options = { runner: this.#runner, signal };
    for (const programs of iptablesCandidates(this.family)) {
      const loaded = await readIfThere(programs, options);
      const text = loaded === undefined ? "" : cleanupText(loaded);
      if (text !== "") await restoreRules(programs, text, options);
    }
    this.#chainsOf.clear();
  }

  #chosen(): IptablesPrograms {
    if (this.#programs === undefined) {
      throw new TypeError("obstacle() has not found an iptables");
    }
    return this.#programs;
  }
}

function canaryText(): string {
  return `*mangle\n:${KUBE_PROXY_CANARY} - [0:0]\nCOMMIT\n`;
}

function serviceChains(
  { tables }: IptablesProgram,
): Map<string, readonly string[]> {
  const chains = tables.flatMap((table) => table.chains)
    .filter(({ service }) => service !== undefined);
  const byService = Map.groupBy(chains, ({ service }) => service ?? "");
  return new Map(
    [...byService].map(([service, own]) => [
      service,
      own.map(({ name }) => name),
    ]),
  );
}

/** Lines before and after the one that a restore did not take (fact 10.34). */
const CONTEXT_LINES = 1;

function withLines(error: CommandError, text: string): CommandError {
  const number = Number(/line:? (\d+)/.exec(error.stderr)?.[1]);
  if (!(number > 0)) return error;
  const from = Math.max(0, number - 1 - CONTEXT_LINES);
  const lines = text.split("\n").slice(from, number + CONTEXT_LINES);
  return new CommandError(
    `${error.message}; its lines from ${from + 1} on: ${lines.join(" | ")}`,
    {
      command: error.command,
      stderr: error.stderr,
      cause: error.cause,
      ...(error.exitCode === undefined ? {} : { exitCode: error.exitCode }),
    },
  );
}
