/**
 * Keeps one IP family of the kernel programmed in nftables mode: the snapshot
 * goes in, transactions of `nft` come out. The table of an earlier run, ours or
 * kube-proxy's, is taken over in one transaction; what the kernel refuses makes
 * the next write a full one.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { IpFamily } from "../../../ip.ts";
import { SteeringError } from "../../../steering.ts";
import type { CommandRunner } from "../../command.ts";
import {
  isWithoutNft,
  nftError,
  type NftOptions,
  nftVersion,
  runTransaction,
} from "../../nft_program.ts";
import { nftFamily } from "../../nft_rules.ts";
import type {
  KernelProgrammer,
  ProgramResult,
  ProgramScope,
} from "../kernel_programmer.ts";
import type { ModeInput } from "../mode_input.ts";
import { Commands } from "./commands.ts";
import { InstalledTable } from "./installed_table.ts";
import { type ExistingTable, parseExisting } from "./listing.ts";
import { markCommands } from "./mark.ts";
import { TABLE } from "./names.ts";
import { probeText } from "./probe.ts";

const logger = getLogger("rules");

/** How long a chain is empty before it is deleted (fact 10.39). */
const EMPTY_MS = 1_000;

/**
 * Up to here a check counts every rule; beyond, nft takes seconds to list them
 * (10,000 Services: 6 s), and only names are compared.
 */
const CHAINS_COUNTED = 2_000;

export interface NftablesProgrammerOptions {
  readonly family: IpFamily;
  readonly runner: CommandRunner;
  /** Milliseconds, of any beginning. */
  now(): number;
}

export class NftablesProgrammer implements KernelProgrammer {
  readonly family: IpFamily;
  readonly #options: NftablesProgrammerOptions;
  readonly #commands: Commands;
  /** As the kernel has it; missing where that is not known. */
  #table: InstalledTable | undefined;
  #cleanupFailures = 0;
  /** Chain → since when it is empty. */
  readonly #emptySince = new Map<string, number>();

  constructor(options: NftablesProgrammerOptions) {
    this.family = options.family;
    this.#options = options;
    this.#commands = new Commands({
      family: nftFamily(options.family),
      name: TABLE,
    });
  }

  get cleanupFailures(): number {
    return this.#cleanupFailures;
  }

  async obstacle(signal: AbortSignal): Promise<string | undefined> {
    const options = this.#nft(signal);
    try {
      await nftVersion(options);
      await runTransaction(probeText(this.family).split("\n"), options);
      return undefined;
    } catch (error) {
      const why = nftError("Cannot load rules with nft", error);
      if (!(why instanceof SteeringError)) throw why;
      return why.message;
    }
  }

  async program(
    input: ModeInput,
    scope: ProgramScope,
    signal: AbortSignal,
  ): Promise<ProgramResult> {
    const known = this.#table;
    // Until the kernel has taken it all, nothing is known of it.
    this.#table = undefined;
    const isFull = scope.full || known === undefined;
    const written = isFull
      ? await this.#replace(input, signal)
      : await this.#change(known, { input, scope, signal });
    const { size = 0 } = this.#table ?? {};
    return { written: { [TABLE]: written }, total: { [TABLE]: size } };
  }

  async #replace(input: ModeInput, signal: AbortSignal): Promise<number> {
    const table = new InstalledTable(input);
    const transactions = table.replace(input, await this.#existing(signal));
    const mark = markCommands(this.family);
    for (const [i, lines] of transactions.entries()) {
      await this.#run(i === 0 ? [...mark, ...lines] : lines, signal);
    }
    this.#take(table);
    return transactions.flat().filter(isWrite).length;
  }

  async #change(
    table: InstalledTable,
    { input, scope, signal }: {
      input: ModeInput;
      scope: ProgramScope;
      signal: AbortSignal;
    },
  ): Promise<number> {
    const lines = table.change(input, scope.changed);
    if (lines.length > 0) await this.#run(lines, signal);
    this.#take(table);
    await this.#deleteEmpty(table, signal);
    return lines.filter(isWrite).length;
  }

  #take(table: InstalledTable): void {
    this.#table = table;
    const { unwantedChains } = table;
    for (const name of this.#emptySince.keys()) {
      if (!unwantedChains.has(name)) this.#emptySince.delete(name);
    }
    for (const name of unwantedChains) {
      if (!this.#emptySince.has(name)) {
        this.#emptySince.set(name, this.#options.now());
      }
    }
  }

  /** What cannot be deleted stays, empty, until the next full write sees it. */
  async #deleteEmpty(
    table: InstalledTable,
    signal: AbortSignal,
  ): Promise<void> {
    const now = this.#options.now();
    const due = [...this.#emptySince]
      .filter(([, since]) => now - since >= EMPTY_MS).map(([name]) => name);
    if (due.length === 0) return;
    table.forgetUnwanted(due);
    for (const name of due) this.#emptySince.delete(name);
    try {
      await this.#run(
        due.map((name) => this.#commands.deleteChain(name)),
        signal,
      );
    } catch (error) {
      if (signal.aborted) throw error;
      this.#cleanupFailures++;
      logger.warn("Cannot delete chains that are not used any more", {
        family: this.family,
        chains: due.length,
        cause: nftError("Cannot write rules with nft", error),
      });
    }
  }

  async isIntact(signal: AbortSignal): Promise<boolean> {
    const table = this.#table;
    if (table === undefined) return false;
    await this.#deleteEmpty(table, signal);
    const { sets, maps, chains } = table.table;
    const isCounted = chains.length <= CHAINS_COUNTED;
    const there = await this.#existing(signal, { withRules: isCounted });
    return chains.every(({ name, rules }) => {
      const count = there.chains.get(name);
      return count !== undefined && (!isCounted || count === rules.length);
    }) && sets.every(({ name }) => there.sets.has(name)) &&
      maps.every(({ name }) => there.maps.has(name));
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    this.#table = undefined;
    this.#emptySince.clear();
    try {
      await this.#run(this.#commands.removeTable(), signal);
    } catch (error) {
      if (!isWithoutNft(error)) {
        throw nftError("Cannot remove rules with nft", error);
      }
    }
  }

  /** Three lists, since that of the table reads all rules first. */
  async #existing(
    signal: AbortSignal,
    { withRules = false }: { withRules?: boolean } = {},
  ): Promise<ExistingTable> {
    const family = nftFamily(this.family);
    const stdin = withRules
      ? `list ruleset ${family}\n`
      : ["chains", "sets", "maps"].map((kind) => `list ${kind} ${family}\n`)
        .join("");
    const { runner } = this.#options;
    const text = await runner.run(["nft", "-t", "-f", "-"], { signal, stdin });
    return parseExisting(text, `${family} ${TABLE}`);
  }

  #run(lines: readonly string[], signal: AbortSignal): Promise<void> {
    return runTransaction(lines, this.#nft(signal));
  }

  #nft(signal: AbortSignal): NftOptions {
    return { runner: this.#options.runner, signal };
  }
}

/** Whether a command adds or removes a rule or an element. */
function isWrite(line: string): boolean {
  return /^(add|delete) (rule|element) /.test(line);
}
