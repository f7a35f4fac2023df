/**
 * Starts `nft`: commands go in as one transaction, tables come out, and a
 * failure is one sentence, or the lines that the kernel did not take.
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
import {
  frameOf,
  type NftTable,
  ownSetsIn,
  parseTable,
  parseTables,
} from "./nft_text.ts";
import { NFT_TABLE, tableSpec } from "./nft_rules.ts";

export interface NftOptions {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** What nft calls itself: `1.0.6`; empty if it does not say. */
export async function nftVersion(
  { runner, signal }: NftOptions,
): Promise<string> {
  const text = await runner.run(["nft", "--version"], { signal });
  return /\bv(\d[\d.]*)/.exec(text)?.[1] ?? "";
}

/**
 * Which tables there are: `ip kube-portal`. As text: nft 1.0.6 dies of printing
 * a table with flags as JSON, and others may have one.
 *
 * @throws {CommandError} without the program, the privilege or the kernel
 */
export async function listTables(
  { runner, signal }: NftOptions,
): Promise<ReadonlySet<string>> {
  return parseTables(await runner.run(["nft", "list", "tables"], { signal }));
}

/**
 * A table of ours without its elements, to be compared; it must exist.
 *
 * @throws {CommandError}
 */
export async function listFrame(
  family: IpFamily,
  options: NftOptions & { table?: string; isAsleep?: boolean },
): Promise<string> {
  const { runner, signal, table = NFT_TABLE, isAsleep = false } = options;
  const spec = tableSpec(family, table).split(" ");
  const command = ["nft", "-t", "list", "table", ...spec] as const;
  const text = await runner.run([...command], { signal });
  return frameOf(text, { table, isAsleep });
}

/**
 * Our table with its elements; it must exist.
 *
 * @throws {CommandError}
 * @throws {SteeringError} if it is an nft that does not print JSON
 */
export async function listTable(
  family: IpFamily,
  options: NftOptions,
): Promise<NftTable> {
  const frame = await listFrame(family, options);
  const { runner, signal } = options;
  const spec = tableSpec(family).split(" ");
  const sets = [];
  for (const { kind, name } of ownSetsIn(frame)) {
    const command = ["nft", "-j", "list", kind, ...spec, name] as const;
    sets.push({ name, json: await runner.run([...command], { signal }) });
  }
  try {
    return parseTable(frame, sets);
  } catch (cause) {
    throw new SteeringError(
      'Cannot read rules with nft: it does not print JSON, one built with "--with-json" is needed',
      { cause },
    );
  }
}

/**
 * Runs commands, one a line: all of them, or none.
 *
 * @throws {CommandError}
 */
export async function runTransaction(
  lines: readonly string[],
  { runner, signal }: NftOptions,
): Promise<void> {
  const stdin = lines.map((line) => `${line}\n`).join("");
  await runner.run(["nft", "-f", "-"], { signal, stdin });
}

/**
 * The lines of a transaction that were the reason why it was not taken,
 * counted from 0, each with its reason.
 */
export function refusedLines(error: CommandError): Map<number, string> {
  const refused = new Map<number, string>();
  // `/dev/stdin:3:1-40: Error: Could not process rule: File exists`
  const found = error.stderr.matchAll(
    /^\S+?:(\d+):\d+-\d+: Error: (.*)$/gm,
  );
  for (const [, line, why = ""] of found) {
    const index = Number(line) - 1;
    if (!refused.has(index)) refused.set(index, why);
  }
  return refused;
}

/**
 * Whether nft or the kernel did not take what was in a transaction; rather
 * than any transaction.
 */
export function isNftRefusal(error: unknown): error is CommandError {
  return error instanceof CommandError && error.exitCode !== undefined &&
    !isNotPermitted(error) && !isWithoutNft(error);
}

/** The kernel has no nftables, or the machine no nft: nothing is installed. */
export function isWithoutNft(error: unknown): boolean {
  return isProgramMissing(error) || error instanceof CommandError &&
      /cache initialization failed: .*not supported/i.test(error.stderr);
}

function isNotPermitted(error: CommandError): boolean {
  return /Operation not permitted|Permission denied/.test(error.stderr);
}

/** A failed program as one sentence; anything else as it is. */
export function nftError(what: string, error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return new SteeringError(`${what}: ${nftReason(error)}`, { cause: error });
}

/** Why nft failed, as the rest of a sentence. */
function nftReason(error: CommandError): string {
  if (error.exitCode === undefined) return error.message;
  if (isNotPermitted(error)) return "needs CAP_NET_ADMIN (run as root)";
  const lines = error.stderr.split("\n").map((line) => line.trim());
  const line = lines.find((line) => line.includes("Error: ")) ?? lines[0];
  return line?.replace(/^.*?Error: /, "") ||
    `it exited with code ${error.exitCode}`;
}
