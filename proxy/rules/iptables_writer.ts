/**
 * Keeps redirections in the kernel through `iptables-save` and
 * `iptables-restore --noflush`: one transaction for each change, and only
 * differences. What the rules are, `iptables_rules.ts` says.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { IpFamily } from "../ip.ts";
import { SteeringError } from "../steering.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "./command.ts";
import {
  probeForm,
  probeGuard,
  removeProbes,
  takesSets,
} from "./iptables_probe.ts";
import {
  chooseIptables,
  iptablesCandidates,
  type IptablesChoice,
  iptablesError,
  type IptablesPrograms,
  isRefusal,
  readIfThere,
  readRules,
  restoreRules,
} from "./iptables_programs.ts";
import {
  frameRules,
  type IptablesForm,
  isInsertedFirst,
  isOwnChain,
  ownChains,
  ownPart,
  parseRedirection,
  redirectionRules,
  setRulePort,
  type SetRules,
} from "./iptables_rules.ts";
import {
  type ChainName,
  renderTransaction,
  type RuleLine,
  ruleParts,
  type Ruleset,
  type Transaction,
} from "./iptables_text.ts";
import { type Redirection, redirectionKey } from "./redirection.ts";
import type {
  InstalledRules,
  RulesAbilities,
  RulesChange,
  RulesResult,
  RulesWriter,
} from "./rules_writer.ts";

const logger = getLogger("rules");

/** How many transactions are spent on finding what the kernel does not take. */
const MOST_PARTS = 100;

export interface IptablesWriterOptions {
  readonly family: IpFamily;
  readonly runner: CommandRunner;
}

export class IptablesWriter implements RulesWriter {
  readonly family: IpFamily;
  readonly #runner: CommandRunner;
  #choice: IptablesChoice | undefined;
  #form: IptablesForm;
  #chains: ReadonlySet<ChainName> = new Set();
  /** Rules as we would write them. */
  readonly #rules = new Set<RuleLine>();
  readonly #installed = new Map<string, Redirection>();
  /** How many redirections need a rule: those to one port share its guard. */
  readonly #uses = new Map<RuleLine, number>();
  /** What is in our chains, or leads to them, and should not. */
  #stale: readonly RuleLine[] = [];

  constructor({ family, runner }: IptablesWriterOptions) {
    this.family = family;
    this.#runner = runner;
    this.#form = { family, comments: true, addrtype: true, guard: "raw" };
  }

  get description(): string {
    if (this.#choice === undefined) return "iptables";
    const { programs, why } = this.#choice;
    const { comments, guard } = this.#form;
    const lacks = [
      comments ? "" : "without comments",
      guard === "none"
        ? "proxy ports open to other hosts, since the kernel cannot tell"
        : "",
    ].filter((text) => text !== "");
    return [`${programs.name} (${why})`, ...lacks].join(", ");
  }

  /** Where rules lead what is in sets; `undefined`: there are none. */
  get setPort(): number | undefined {
    return this.#form.sets?.port;
  }

  /** What was read has rules that ask sets, and should have none. */
  get asksSets(): boolean {
    return this.#stale.some((rule) => rule.includes(" --match-set KUBE-"));
  }

  async isInstalled(signal: AbortSignal): Promise<boolean> {
    const runner = this.#runner;
    for (const programs of iptablesCandidates(this.family)) {
      const rules = await readIfThere(programs, { runner, signal });
      if (rules !== undefined && ownPart(rules).chains.size > 0) return true;
    }
    return false;
  }

  async probe(signal: AbortSignal): Promise<RulesAbilities> {
    const runner = this.#runner;
    this.#choice = await chooseIptables(this.family, { runner, signal });
    const options = { programs: this.#choice.programs, runner, signal };
    await removeProbes(options);
    this.#form = await probeForm(this.family, options);
    return { canChooseAddress: this.#form.target !== undefined };
  }

  async use(target: string | undefined, signal: AbortSignal): Promise<void> {
    if (target === this.#form.target) return;
    const { target: _, ...form } = this.#form;
    this.#form = target === undefined ? form : { ...form, target };
    const options = { programs: this.#programs, runner: this.#runner, signal };
    const guard = await probeGuard(this.#form, options);
    this.#form = { ...this.#form, guard };
  }

  /** Whether rules can ask these sets, which must be there. After `use`. */
  async takesSets(sets: SetRules, signal: AbortSignal): Promise<boolean> {
    const options = { programs: this.#programs, runner: this.#runner, signal };
    return await takesSets({ ...this.#form, sets }, options);
  }

  /** TCP is led by sets from now on: it is not this writer's any more. */
  useSets(sets: SetRules): void {
    const before = frameRules(this.#form);
    this.#form = { ...this.#form, sets };
    const after = new Set(frameRules(this.#form));
    const stale = before.filter((rule) =>
      !after.has(rule) && this.#rules.delete(rule)
    );
    this.#stale = [...this.#stale, ...stale];
  }

  async read(signal: AbortSignal): Promise<InstalledRules> {
    const runner = this.#runner;
    let ruleset: Ruleset;
    try {
      ruleset = await readRules(this.#programs, { runner, signal });
    } catch (error) {
      throw iptablesError(
        `Cannot read rules with ${this.#programs.save}`,
        error,
      );
    }
    return this.#take(ownPart(ruleset));
  }

  /** Sorts what is ours into what we would write and what we would not. */
  #take({ chains, rules }: Ruleset): InstalledRules {
    this.#chains = chains;
    this.#rules.clear();
    this.#installed.clear();
    this.#uses.clear();
    const { sets } = this.#form;
    if (sets !== undefined) {
      const port = setRulePort(rules, sets.names.services.open);
      this.#form = { ...this.#form, sets: { ...sets, port } };
    }
    const present = new Set(rules);
    const expected = new Set(frameRules(this.#form));
    const ports = new Map<string, number>();
    for (const rule of present) {
      const redirection = parseRedirection(rule);
      if (redirection === undefined) continue;
      const key = redirectionKey(redirection);
      if (!ports.has(key)) ports.set(key, redirection.proxyPort);
      const wanted = redirectionRules(redirection, this.#form);
      if (this.#installed.has(key) || !wanted.includes(rule)) continue;
      for (const each of wanted) expected.add(each);
      if (wanted.every((each) => present.has(each))) {
        this.#count(redirection, 1);
      }
    }
    this.#stale = rules.filter((rule) => {
      if (!expected.has(rule) || this.#rules.has(rule)) return true;
      this.#rules.add(rule);
      return false;
    });
    return { redirections: new Map(this.#installed), ports };
  }

  /** Adds a redirection to what is installed (1), or takes it out (-1). */
  #count(redirection: Redirection, by: 1 | -1): void {
    const key = redirectionKey(redirection);
    if (by === 1) this.#installed.set(key, redirection);
    else this.#installed.delete(key);
    for (const rule of redirectionRules(redirection, this.#form)) {
      this.#uses.set(rule, (this.#uses.get(rule) ?? 0) + by);
    }
  }

  async apply(change: RulesChange, signal: AbortSignal): Promise<RulesResult> {
    const written = await this.#tryCommit(change, signal);
    if (typeof written === "number") return { written, refused: new Map() };
    // Perhaps somebody changed our chains, and a rule to remove is not there.
    await this.read(signal);
    return await this.#applyInParts(change, signal);
  }

  /**
   * One redirection that the kernel does not take must not keep the others
   * out: halves are tried, and halves of those.
   */
  async #applyInParts(
    change: RulesChange,
    signal: AbortSignal,
  ): Promise<RulesResult> {
    const refused = new Map<string, SteeringError>();
    let parts = 0;
    let written = 0;
    const commit = async (part: RulesChange): Promise<void> => {
      const result = parts++ < MOST_PARTS
        ? await this.#tryCommit(part, signal)
        : new SteeringError(
          "Cannot write rules: the kernel does not take too many of them",
        );
      if (typeof result === "number") {
        written += result;
        return;
      }
      if (part.add.length + part.remove.length <= 1 || parts > MOST_PARTS) {
        for (const each of part.add) refused.set(redirectionKey(each), result);
        return;
      }
      for (const half of halves(part)) await commit(half);
    };
    await commit({ add: [], remove: change.remove });
    await commit({ add: change.add, remove: [] });
    return { written, refused };
  }

  /**
   * @returns how many rules and chains were written; or why this change was
   *   not taken
   * @throws {SteeringError} if none would be
   */
  async #tryCommit(
    change: RulesChange,
    signal: AbortSignal,
  ): Promise<number | SteeringError> {
    const plan = this.#plan(change);
    const text = renderTransaction(plan);
    if (text === "") {
      this.#note(change, plan);
      return 0;
    }
    const programs = this.#programs;
    const runner = this.#runner;
    try {
      await restoreRules(programs, text, { runner, signal });
    } catch (error) {
      const sentence = `Cannot write rules with ${programs.restore}`;
      const why = iptablesError(sentence, error);
      if (isRefusal(error) && why instanceof SteeringError) return why;
      throw why;
    }
    this.#note(change, plan);
    return Object.values(plan).flat().length;
  }

  /** Everything that this change takes, and what is amiss besides. */
  #plan({ add, remove }: RulesChange): Required<Transaction> {
    const form = this.#form;
    const added = new Set(add.flatMap((each) => redirectionRules(each, form)));
    const removed = this.#unused(remove)
      .filter((rule) => this.#rules.has(rule) && !added.has(rule));
    const chains = ownChains(form);
    const isNeeded = this.#installed.size + add.length > 0 ||
      form.sets?.port !== undefined;
    const missing = isNeeded
      ? frameRules(form).filter((rule) => !this.#rules.has(rule))
      : [];
    return {
      newChains: isNeeded
        ? chains.filter((chain) => !this.#chains.has(chain))
        : [],
      remove: [...this.#stale, ...removed],
      insert: missing.filter(isInsertedFirst),
      append: [
        ...missing.filter((rule) => !isInsertedFirst(rule)),
        ...[...added].filter((rule) => !this.#rules.has(rule)),
      ],
      oldChains: [...this.#chains].filter((chain) => !chains.includes(chain)),
    };
  }

  /** The rules that nothing needs without these redirections. */
  #unused(remove: readonly Redirection[]): RuleLine[] {
    const fewer = new Map<RuleLine, number>();
    for (const each of remove) {
      if (!this.#installed.has(redirectionKey(each))) continue;
      for (const rule of redirectionRules(each, this.#form)) {
        fewer.set(rule, (fewer.get(rule) ?? 0) + 1);
      }
    }
    return [...fewer].filter(([rule, count]) =>
      count >= (this.#uses.get(rule) ?? 0)
    ).map(([rule]) => rule);
  }

  /** The kernel has taken a plan. */
  #note({ add, remove }: RulesChange, plan: Required<Transaction>): void {
    const chains = new Set(this.#chains);
    for (const chain of plan.newChains) chains.add(chain);
    for (const chain of plan.oldChains) chains.delete(chain);
    this.#chains = chains;
    for (const rule of plan.remove) this.#rules.delete(rule);
    for (const rule of [...plan.insert, ...plan.append]) this.#rules.add(rule);
    this.#stale = [];
    for (const each of [...remove, ...add]) {
      const before = this.#installed.get(redirectionKey(each));
      if (before !== undefined) this.#count(before, -1);
    }
    for (const each of add) this.#count(each, 1);
  }

  get #programs(): IptablesPrograms {
    if (this.#choice === undefined) throw new TypeError("Not probed yet");
    return this.#choice.programs;
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const [nft, legacy, plain] = iptablesCandidates(this.family);
    let found = false;
    for (const programs of [nft, legacy]) {
      if (programs === undefined) continue;
      found = await this.#cleanupWith(programs, signal) || found;
    }
    if (!found && plain !== undefined) await this.#cleanupWith(plain, signal);
    this.#take({ chains: new Set(), rules: [] });
  }

  /** @returns whether there are such programs */
  async #cleanupWith(
    programs: IptablesPrograms,
    signal: AbortSignal,
  ): Promise<boolean> {
    const options = { runner: this.#runner, signal };
    try {
      const { chains, rules } = ownPart(await readRules(programs, options));
      if (chains.size + rules.length === 0) return true;
      const text = renderTransaction({
        remove: rules.filter((rule) => !isOwnChain(ruleParts(rule).chain)),
        oldChains: [...chains],
      });
      await restoreRules(programs, text, options);
      logger.info("Removed the rules of redirect", {
        program: programs.name,
        rules: rules.length,
      });
      return true;
    } catch (error) {
      if (isProgramMissing(error)) return false;
      throw error instanceof CommandError
        ? iptablesError(`Cannot remove rules with ${programs.restore}`, error)
        : error;
    }
  }
}

function halves({ add, remove }: RulesChange): RulesChange[] {
  const half = (of: readonly Redirection[], at: 0 | 1) => {
    const middle = of.length >> 1;
    return at === 0 ? of.slice(0, middle) : of.slice(middle);
  };
  return ([0, 1] as const).map((at) => ({
    add: half(add, at),
    remove: half(remove, at),
  })).filter((part) => part.add.length + part.remove.length > 0);
}
