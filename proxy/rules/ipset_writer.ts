/**
 * Keeps redirections in the kernel through iptables and sets of `ipset`: TCP
 * addresses that share a proxy port are elements of sets, and the rules stay
 * the same however many there are; UDP has a rule for each address, as
 * `iptables_writer.ts` writes it. Where there are no sets, so has TCP.
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
  createLine,
  IpsetState,
  ownSetsIn,
  probeSetName,
  type SetLine,
} from "./ipset_state.ts";
import { IptablesWriter } from "./iptables_writer.ts";
import { destroySets, listSets, restoreSets } from "./ipset_program.ts";
import { redirectionKey } from "./redirection.ts";
import type {
  InstalledRules,
  RulesAbilities,
  RulesChange,
  RulesResult,
  RulesWriter,
} from "./rules_writer.ts";

const logger = getLogger("rules");

/** The ports of all TCP addresses of a family. */
export interface SharedPort {
  /** Asked in each pass; `undefined`: all are taken. */
  port(): number | undefined;
  readonly closedPort: number;
}

export interface IpsetWriterOptions {
  readonly family: IpFamily;
  readonly runner: CommandRunner;
  /** Missing: no sets are used, and those of an earlier run are removed. */
  readonly shared?: SharedPort;
}

/** How many lines that ipset refuses are left out, one by one. */
const MOST_TRIES = 20;

export class IpsetWriter implements RulesWriter {
  readonly family: IpFamily;
  readonly #runner: CommandRunner;
  readonly #shared: SharedPort | undefined;
  readonly #rules: IptablesWriter;
  /** `undefined`: no sets are used. */
  #state: IpsetState | undefined;
  #whyNot = "";
  /** Sets of an earlier run may be there. */
  #isUnswept = true;

  constructor({ family, runner, shared }: IpsetWriterOptions) {
    this.family = family;
    this.#runner = runner;
    this.#shared = shared;
    this.#rules = new IptablesWriter({ family, runner });
  }

  get description(): string {
    const { description } = this.#rules;
    if (this.#shared === undefined) return description;
    return this.#state === undefined
      ? `${description}, a rule for each address (${this.#whyNot})`
      : `${description} with ipset`;
  }

  isInstalled(signal: AbortSignal): Promise<boolean> {
    return this.#rules.isInstalled(signal);
  }

  probe(signal: AbortSignal): Promise<RulesAbilities> {
    return this.#rules.probe(signal);
  }

  async use(target: string | undefined, signal: AbortSignal): Promise<void> {
    await this.#rules.use(target, signal);
    this.#state = undefined;
    if (this.#shared === undefined) return;
    const { closedPort } = this.#shared;
    const state = new IpsetState({ family: this.family, closedPort });
    if (!await this.#takesSets(closedPort, signal)) return;
    this.#state = state;
    const { names } = state;
    this.#rules.useSets({ names, port: undefined, closedPort });
  }

  /** Makes a set, loads rules that ask it, and removes both. */
  async #takesSets(closedPort: number, signal: AbortSignal): Promise<boolean> {
    const { family } = this;
    const name = probeSetName(family);
    const both = { open: name, closed: name };
    const names = { services: both, nodePorts: both, clusterIps: name };
    try {
      const text = createLine(name, { family, type: "hash:ip,port" });
      await this.#restore([{ text }], signal);
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.#whyNot = isProgramMissing(error)
        ? "no ipset on the PATH"
        : `ipset does not work: ${reasonOf(error)}`;
      return false;
    }
    const sets = { names, port: closedPort, closedPort };
    const takes = await this.#rules.takesSets(sets, signal);
    if (!takes) this.#whyNot = "rules cannot ask sets here";
    await destroySets([name], { runner: this.#runner, signal });
    return takes;
  }

  async read(signal: AbortSignal): Promise<InstalledRules> {
    const { redirections, ports } = await this.#rules.read(signal);
    const state = this.#state;
    if (state === undefined) return { redirections, ports };
    const sharedPort = this.#rules.setPort;
    try {
      const text = await this.#save(signal);
      state.take(text, { sharedPort, udp: redirections });
    } catch (error) {
      throw ipsetError("Cannot read sets with ipset", error);
    }
    this.#isUnswept = true;
    const shared = [...state.installed.values()]
      .filter(({ protocol, proxyPort }) =>
        protocol === "TCP" && proxyPort === sharedPort
      ).map((each) => [redirectionKey(each), each.proxyPort] as const);
    return {
      redirections: new Map(state.installed),
      ports: new Map([...shared, ...ports]),
    };
  }

  async #save(signal: AbortSignal): Promise<string> {
    const texts: string[] = [];
    for (const name of await this.#ownSets(signal)) {
      if (name === probeSetName(this.family)) continue;
      const runner = this.#runner;
      texts.push(await runner.run(["ipset", "save", name], { signal }));
    }
    return texts.join("\n");
  }

  async #ownSets(signal: AbortSignal): Promise<string[]> {
    const names = await listSets({ runner: this.#runner, signal });
    return ownSetsIn(names, this.family);
  }

  async apply(change: RulesChange, signal: AbortSignal): Promise<RulesResult> {
    const port = this.#shared?.port();
    const state = this.#state;
    if (state === undefined || port === undefined) {
      return await this.#applyRules(change, signal);
    }
    const refused = new Map<string, SteeringError>();
    let part = change;
    let plan = state.plan(part);
    // In this order nothing is led anywhere before it is known where.
    for (;;) {
      try {
        await this.#restore(plan.before, signal);
        break;
      } catch (error) {
        const why = ipsetError("Cannot write sets with ipset", error);
        const key = refusedKey(error, plan.before);
        if (key === undefined || refused.size === MOST_TRIES) throw why;
        refused.set(key, new SteeringError((why as SteeringError).message));
        const add = part.add.filter((each) => redirectionKey(each) !== key);
        part = { ...part, add };
        plan = state.plan(part);
      }
    }
    const { closedPort } = this.#shared as SharedPort;
    const { names } = state;
    // Without an address there may be no set that a rule could ask.
    const isNeeded = state.installed.size + part.add.length > 0;
    this.#rules.useSets({
      names,
      port: isNeeded ? port : undefined,
      closedPort,
    });
    const rules = await this.#rules.apply(udpOf(part), signal);
    try {
      await this.#restore(plan.after, signal);
    } catch (error) {
      throw ipsetError("Cannot write sets with ipset", error);
    }
    state.note(part);
    const { before, after } = plan;
    return {
      written: before.length + rules.written + after.length,
      refused: new Map([...refused, ...rules.refused]),
    };
  }

  /** Sets of an earlier run are removed when no rule asks them any more. */
  async #applyRules(
    change: RulesChange,
    signal: AbortSignal,
  ): Promise<RulesResult> {
    const hadSets = this.#isUnswept && this.#rules.asksSets;
    const result = await this.#rules.apply(change, signal);
    this.#isUnswept = false;
    if (!hadSets) return result;
    const sets = await this.#ownSets(signal);
    await destroySets(sets, { runner: this.#runner, signal });
    return result;
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    await this.#rules.cleanup(signal);
    const sets = await this.#ownSets(signal);
    await destroySets(sets, { runner: this.#runner, signal });
    const left = await this.#ownSets(signal);
    if (left.length > 0) {
      throw new SteeringError(
        `Cannot remove sets with ipset: "${left.join('", "')}" in use`,
      );
    }
    if (sets.length > 0) logger.info("Removed the sets of redirect", { sets });
    this.#state?.take("", { sharedPort: undefined, udp: new Map() });
  }

  async #restore(
    lines: readonly SetLine[],
    signal: AbortSignal,
  ): Promise<void> {
    const texts = lines.map(({ text }) => text);
    await restoreSets(texts, { runner: this.#runner, signal });
  }
}

function udpOf({ add, remove }: RulesChange): RulesChange {
  return {
    add: add.filter(({ protocol }) => protocol === "UDP"),
    remove: remove.filter(({ protocol }) => protocol === "UDP"),
  };
}

/** The redirection whose line `ipset restore` stopped at. */
function refusedKey(
  error: unknown,
  lines: readonly SetLine[],
): string | undefined {
  if (!(error instanceof CommandError)) return undefined;
  const line = /Error in line (\d+)/.exec(error.stderr)?.[1];
  return line === undefined ? undefined : lines[Number(line) - 1]?.key;
}

function ipsetError(what: string, error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return new SteeringError(`${what}: ${reasonOf(error)}`, { cause: error });
}

function reasonOf(error: CommandError): string {
  if (error.exitCode === undefined) return error.message;
  const [line = ""] = error.stderr.trim().split("\n");
  return line.replace(/^ipset v\S+: /, "") ||
    `it exited with code ${error.exitCode}`;
}
