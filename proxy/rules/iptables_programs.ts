/**
 * Which iptables: most machines have two, `nft` and `legacy`, that do not see
 * each other's rules, and rules in both contradict each other sooner or later.
 * The one that the node already uses is the right one. Starts programs; writes
 * nothing.
 *
 * @module
 */
import type { IpFamily } from "../ip.ts";
import { SteeringError } from "../steering.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "./command.ts";
import { ownPart } from "./iptables_rules.ts";
import { parseSave, type Ruleset } from "./iptables_text.ts";

export interface IptablesPrograms {
  /** `iptables-nft`, `ip6tables-legacy`. */
  readonly name: string;
  readonly save: string;
  readonly restore: string;
}

/** Programs, and why these. */
export interface IptablesChoice {
  readonly programs: IptablesPrograms;
  /** The rest of a sentence: `the node's rules are there`. */
  readonly why: string;
}

/** How long to wait for others that write rules, in seconds. */
const LOCK_WAIT_S = "5";

/** The chains by which kubelet says which iptables it uses (KEP-3178). */
const KUBELET_CHAINS = ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY"];

/** Both kinds of programs, and the one that has no kind in its name. */
export function iptablesCandidates(family: IpFamily): IptablesPrograms[] {
  const prefix = family === "IPv4" ? "iptables" : "ip6tables";
  return [`${prefix}-nft`, `${prefix}-legacy`, prefix].map((name) => ({
    name,
    save: `${name}-save`,
    restore: `${name}-restore`,
  }));
}

/**
 * Chooses by what is loaded: the programs that have rules of ours, else those
 * that kubelet uses, else those with the most rules, else what `iptables` is.
 *
 * @throws {SteeringError} if there are none
 */
export async function chooseIptables(
  family: IpFamily,
  { runner, signal, ownChains = portalChains }: {
    runner: CommandRunner;
    signal: AbortSignal;
    /** How many chains of an earlier run there are. */
    ownChains?: (rules: Ruleset) => number;
  },
): Promise<IptablesChoice> {
  const [nft, legacy, plain] = iptablesCandidates(family) as [
    IptablesPrograms,
    IptablesPrograms,
    IptablesPrograms,
  ];
  const found: { programs: IptablesPrograms; rules: Ruleset }[] = [];
  for (const programs of [nft, legacy]) {
    const rules = await readIfThere(programs, { runner, signal });
    if (rules !== undefined) found.push({ programs, rules });
  }
  const [first, second] = found;
  if (first === undefined) return await plainChoice(plain, { runner, signal });
  if (second === undefined) {
    return { programs: first.programs, why: "it is the only one" };
  }
  const criteria: readonly [string, (rules: Ruleset) => number][] = [
    [
      "rules of an earlier run are there",
      ownChains,
    ],
    ["kubelet uses it", kubeletChains],
    ["most of the node's rules are there", ({ rules }) => rules.length],
  ];
  for (const [why, count] of criteria) {
    const difference = count(first.rules) - count(second.rules);
    if (difference !== 0) {
      const { programs } = difference > 0 ? first : second;
      return { programs, why };
    }
  }
  const isLegacy = (await version(plain, { runner, signal })).includes(
    "legacy",
  );
  const { programs } = isLegacy ? second : first;
  return { programs, why: "the machine's default" };
}

function portalChains(rules: Ruleset): number {
  return ownPart(rules).chains.size;
}

/** Neither kind has a name of its own: an older, or a smaller, machine. */
async function plainChoice(
  plain: IptablesPrograms,
  options: { runner: CommandRunner; signal: AbortSignal },
): Promise<IptablesChoice> {
  try {
    await readRules(plain, options);
  } catch (error) {
    throw iptablesError(`Cannot read rules with ${plain.save}`, error);
  }
  const kind = /legacy|nf_tables/.exec(await version(plain, options))?.[0];
  return {
    programs: plain,
    why: `it is the only one${kind === undefined ? "" : `, ${kind}`}`,
  };
}

/**
 * Everything that is loaded; nothing where that cannot be known.
 *
 * @returns `undefined` if there is no such program, or it cannot be started
 */
export async function readIfThere(
  programs: IptablesPrograms,
  options: { runner: CommandRunner; signal: AbortSignal },
): Promise<Ruleset | undefined> {
  try {
    return await readRules(programs, options);
  } catch (error) {
    if (isProgramMissing(error)) return undefined;
    // Without the privilege nothing can be read; what is missing is said when
    // the first rule is tried.
    if (error instanceof CommandError && error.exitCode !== undefined) {
      return EMPTY_RULESET;
    }
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

const EMPTY_RULESET: Ruleset = { chains: new Set(), rules: [] };

function kubeletChains({ chains }: Ruleset): number {
  return KUBELET_CHAINS.filter((chain) => chains.has(`mangle ${chain}`)).length;
}

async function version(
  { name }: IptablesPrograms,
  { runner, signal }: { runner: CommandRunner; signal: AbortSignal },
): Promise<string> {
  try {
    return await runner.run([name, "--version"], { signal });
  } catch (error) {
    if (error instanceof CommandError) return "";
    throw error;
  }
}

/**
 * Everything that is loaded. Without `-t`, since a table that does not exist
 * yet would be made by looking at it.
 *
 * @throws {CommandError}
 */
export async function readRules(
  { save }: IptablesPrograms,
  { runner, signal }: { runner: CommandRunner; signal: AbortSignal },
): Promise<Ruleset> {
  return parseSave(await runner.run([save], { signal }));
}

/**
 * Loads a transaction.
 *
 * @throws {CommandError} if it was not taken; then nothing of that table was
 */
export async function restoreRules(
  { restore }: IptablesPrograms,
  text: string,
  { runner, signal }: { runner: CommandRunner; signal: AbortSignal },
): Promise<void> {
  await runner.run([restore, "--noflush", "-w", LOCK_WAIT_S], {
    signal,
    stdin: text,
  });
}

/** Another program is writing rules at the moment. */
export function isLockHeld(error: unknown): boolean {
  return error instanceof CommandError &&
    error.stderr.includes("xtables lock");
}

/** The lock is a file, and cannot be had at all: `/run` is read-only. */
function isWithoutLock({ stderr }: CommandError): boolean {
  return stderr.includes("open lock file");
}

/** The system does not let us write rules. */
export function isNotPermitted(error: unknown): boolean {
  return error instanceof CommandError &&
    /must be root|Operation not permitted|Permission denied/.test(error.stderr);
}

/**
 * Whether the kernel, or the program, did not take what was in the transaction;
 * rather than any transaction.
 */
export function isRefusal(error: unknown): error is CommandError {
  return error instanceof CommandError && error.exitCode !== undefined &&
    !isLockHeld(error) && !isWithoutLock(error) && !isNotPermitted(error);
}

/** A failed program as one sentence; anything else as it is. */
export function iptablesError(what: string, error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return new SteeringError(`${what}: ${iptablesReason(error)}`, {
    cause: error,
  });
}

/** Why iptables failed, as the rest of a sentence. */
export function iptablesReason(error: CommandError): string {
  if (error.exitCode === undefined) return error.message;
  if (isLockHeld(error)) {
    return "another program holds the lock of the rules (xtables lock)";
  }
  if (isWithoutLock(error)) {
    return `${firstLine(error)}; XTABLES_LOCKFILE names another file`;
  }
  if (isNotPermitted(error)) {
    // The legacy kind speaks to the kernel by a raw socket.
    const needs = /legacy/.test(error.stderr)
      ? "CAP_NET_ADMIN and CAP_NET_RAW"
      : "CAP_NET_ADMIN";
    return `needs ${needs} (run as root)`;
  }
  return firstLine(error);
}

function firstLine({ stderr, exitCode }: CommandError): string {
  const lines = stderr.split("\n").map((line) => line.trim());
  // What follows says where its manual is.
  const useful = lines.filter((line) =>
    line !== "" && !/^(Try `|Error occurred)/.test(line)
  );
  return useful[0] ?? `it exited with code ${exitCode}`;
}
