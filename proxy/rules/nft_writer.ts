/**
 * Keeps redirections in the kernel through `nft`: one transaction for each
 * change, of one element for each redirection. What the table is made of,
 * `nft_rules.ts` says; which commands a change takes, `nft_state.ts`.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { IpFamily } from "../ip.ts";
import { SteeringError } from "../steering.ts";
import type { CommandError, CommandRunner } from "./command.ts";
import {
  isNftRefusal,
  isWithoutNft,
  listFrame,
  listTable,
  listTables,
  nftError,
  nftVersion,
  refusedLines,
  runTransaction,
} from "./nft_program.ts";
import {
  frameLines,
  NFT_PROBE_TABLE,
  NFT_TABLE,
  type NftForm,
  tableSpec,
} from "./nft_rules.ts";
import {
  elementLines,
  type NftLine,
  NftState,
  tableRemoval,
} from "./nft_state.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
  redirectionKey,
} from "./redirection.ts";
import type {
  InstalledRules,
  RulesAbilities,
  RulesChange,
  RulesResult,
  RulesWriter,
} from "./rules_writer.ts";

const logger = getLogger("rules");

/** How many transactions are spent on finding what the kernel does not take. */
const MOST_TRIES = 20;

/** Best first. */
const GUARDS = ["raw", "input", "none"] as const;

export interface NftWriterOptions {
  readonly family: IpFamily;
  readonly runner: CommandRunner;
  /** Where other ports of cluster IPs go; missing: where they went. */
  readonly closedPort?: number;
}

export class NftWriter implements RulesWriter {
  readonly family: IpFamily;
  readonly #runner: CommandRunner;
  readonly #closedPort: number | undefined;
  #version = "";
  #state: NftState | undefined;

  constructor({ family, runner, closedPort }: NftWriterOptions) {
    this.#closedPort = closedPort;
    this.family = family;
    this.#runner = runner;
  }

  get description(): string {
    const open = this.#state?.form.guard === "none"
      ? ", proxy ports open to other hosts, since the kernel cannot tell"
      : "";
    return `${`nft ${this.#version}`.trim()}${open}`;
  }

  async isInstalled(signal: AbortSignal): Promise<boolean> {
    try {
      const specs = await listTables(this.#options(signal));
      return specs.has(tableSpec(this.family));
    } catch (error) {
      if (nftError("", error) instanceof SteeringError) return false;
      throw error;
    }
  }

  async probe(signal: AbortSignal): Promise<RulesAbilities> {
    try {
      this.#version = await nftVersion(this.#options(signal));
      await listTables(this.#options(signal));
    } catch (error) {
      throw nftError("Cannot read rules with nft", error);
    }
    const target = REDIRECT_TARGETS[this.family];
    if (await this.#tryForms(target, signal) === undefined) {
      return { canChooseAddress: true };
    }
    const refusal = await this.#tryForms(undefined, signal);
    if (refusal !== undefined) throw refusal;
    return { canChooseAddress: false };
  }

  async use(target: string | undefined, signal: AbortSignal): Promise<void> {
    if (this.#state !== undefined && this.#state.form.target === target) return;
    const refusal = await this.#tryForms(target, signal);
    if (refusal !== undefined) throw refusal;
  }

  /**
   * Takes the first form that the kernel takes.
   *
   * @returns why it takes none
   */
  async #tryForms(
    target: string | undefined,
    signal: AbortSignal,
  ): Promise<SteeringError | undefined> {
    const { family } = this;
    let refusal: SteeringError | undefined;
    for (const guard of GUARDS) {
      const closedPort = this.#closedPort;
      const form = {
        family,
        guard,
        ...target === undefined ? {} : { target },
        ...closedPort === undefined ? {} : { closedPort },
      };
      try {
        this.#state = new NftState(form, await this.#tryForm(form, signal));
        return undefined;
      } catch (error) {
        const why = nftError("Cannot load a rule with nft", error);
        if (!isNftRefusal(error) || !(why instanceof SteeringError)) throw why;
        refusal = why;
      }
    }
    return refusal;
  }

  /**
   * Loads the table under another name, asleep, and removes it.
   *
   * @returns how it is listed: that depends on the version of nft, and is the
   *   only thing that a table of an earlier run can be compared with
   */
  async #tryForm(form: NftForm, signal: AbortSignal): Promise<string> {
    const options = this.#options(signal);
    const table = NFT_PROBE_TABLE;
    const remove = tableRemoval(form, table);
    const elements = elementLines(form, samples(this.family), table);
    await runTransaction([
      ...remove,
      ...frameLines(form, { table, isAsleep: true }),
      ...elements.map(({ text }) => text),
    ], options);
    try {
      const which = { ...options, table, isAsleep: true };
      return await listFrame(this.family, which);
    } finally {
      await runTransaction(remove, options);
    }
  }

  async read(signal: AbortSignal): Promise<InstalledRules> {
    const state = this.#probed;
    const options = this.#options(signal);
    try {
      const specs = await listTables(options);
      const isThere = specs.has(tableSpec(this.family));
      state.take(isThere ? await listTable(this.family, options) : undefined);
    } catch (error) {
      throw nftError("Cannot read rules with nft", error);
    }
    const ports = [...state.installed].map(([key, { proxyPort }]) =>
      [key, proxyPort] as const
    );
    return {
      redirections: new Map(state.installed),
      ports: new Map(ports),
    };
  }

  async apply(change: RulesChange, signal: AbortSignal): Promise<RulesResult> {
    const state = this.#probed;
    const refused = new Map<string, SteeringError>();
    for (let tries = 1;; tries++) {
      const lines = state.plan(withoutRefused(change, { refused, state }));
      try {
        if (lines.length > 0) {
          await runTransaction(
            lines.map(({ text }) => text),
            this.#options(signal),
          );
        }
        state.note(change, refused);
        return { written: lines.length, refused };
      } catch (error) {
        const why = nftError("Cannot write rules with nft", error);
        if (!isNftRefusal(error)) throw why;
        // Perhaps somebody changed our table, and an element is not there.
        if (tries === 1) {
          await this.read(signal);
          continue;
        }
        const culprits = refusedKeys(error, lines);
        if (culprits.size === 0 || tries === MOST_TRIES) throw why;
        for (const [key, culprit] of culprits) refused.set(key, culprit);
      }
    }
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const options = this.#options(signal);
    try {
      const specs = await listTables(options);
      const ours = [NFT_TABLE, NFT_PROBE_TABLE]
        .map((table) => tableSpec(this.family, table))
        .filter((spec) => specs.has(spec));
      if (ours.length > 0) {
        await runTransaction(
          ours.map((spec) => `delete table ${spec}`),
          options,
        );
        logger.info("Removed the nftables table of redirect", {
          table: ours.join(", "),
        });
      }
    } catch (error) {
      if (!isWithoutNft(error)) {
        throw nftError("Cannot remove rules with nft", error);
      }
    }
    this.#state?.take(undefined);
  }

  get #probed(): NftState {
    if (this.#state === undefined) throw new TypeError("Not probed yet");
    return this.#state;
  }

  #options(signal: AbortSignal) {
    return { runner: this.#runner, signal };
  }
}

/** One of each kind, so that a probe tries everything there is to write. */
function samples(family: IpFamily): Redirection[] {
  const ip = family === "IPv4" ? "192.0.2.1" : "2001:db8::1";
  const sample = { ip, port: 1, name: "probe", proxyPort: 1 };
  return [
    { ...sample, protocol: "TCP", isNodePort: false, isClusterIp: true },
    { ...sample, protocol: "UDP", isNodePort: true },
  ];
}

/** What is refused is not written, and nothing older is left in its place. */
function withoutRefused(
  { add, remove }: RulesChange,
  { refused, state }: {
    refused: ReadonlyMap<string, unknown>;
    state: NftState;
  },
): RulesChange {
  return {
    add: add.filter((each) => !refused.has(redirectionKey(each))),
    remove: [
      ...remove,
      ...[...refused.keys()].flatMap((key) => state.installed.get(key) ?? []),
    ],
  };
}

/** The redirections whose commands failed. */
function refusedKeys(
  error: CommandError,
  lines: readonly NftLine[],
): Map<string, SteeringError> {
  const keys = new Map<string, SteeringError>();
  for (const [index, why] of refusedLines(error)) {
    const key = lines[index]?.key;
    if (key === undefined) continue;
    keys.set(key, new SteeringError(`Cannot write the rule of ${key}: ${why}`));
  }
  return keys;
}
