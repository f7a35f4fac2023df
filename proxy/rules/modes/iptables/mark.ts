/**
 * The mark by which modes that use iptables know what is theirs: an empty-handed
 * chain of the mangle table whose rules are comments. They say which mode it
 * was, and what kernel parameters were before. It lives and dies with the rules
 * it is about, and needs no file. The text is pure; programs read and write it.
 *
 * @module
 */
import { type CommandRunner, isProgramMissing } from "../../command.ts";
import {
  iptablesCandidates,
  type IptablesPrograms,
  readIfThere,
  restoreRules,
} from "../../iptables_programs.ts";
import { ruleParts, type Ruleset } from "../../iptables_text.ts";
import type { IpFamily } from "../../../ip.ts";
import type { KernelMode } from "../mode_input.ts";

const KUBE_PORTAL_MODE = "KUBE-PORTAL-MODE";

const FAMILIES: readonly IpFamily[] = ["IPv4", "IPv6"];

interface Options {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** Whose mark it is, and the parameters to put back; `undefined`: no mark. */
function markIn(
  loaded: Ruleset,
  mode: KernelMode,
): ReadonlyMap<string, string> | undefined {
  const comments = loaded.rules
    .filter((line) => line.startsWith(`mangle -A ${KUBE_PORTAL_MODE} `))
    .map((line) => {
      const { rest } = ruleParts(line);
      return rest[rest.indexOf("--comment") + 1] ?? "";
    });
  if (!comments.includes(`mode ${mode}`)) return undefined;
  return new Map(
    comments.flatMap((comment): [string, string][] => {
      const [, name, value] = /^(\S+) was (.+)$/.exec(comment) ?? [];
      return name === undefined || value === undefined ? [] : [[name, value]];
    }),
  );
}

/** Input for `iptables-restore --noflush`. */
function markText(
  mode: KernelMode,
  originals: ReadonlyMap<string, string>,
): string {
  const comments = [
    `mode ${mode}`,
    ...[...originals].map(([name, value]) => `${name} was ${value}`),
  ];
  return [
    "*mangle",
    `:${KUBE_PORTAL_MODE} - [0:0]`,
    ...comments.map((text) =>
      `-A ${KUBE_PORTAL_MODE} -m comment --comment "${text}"`
    ),
    "COMMIT",
    "",
  ].join("\n");
}

/** Looks for the mark with every kind of iptables there is. */
export async function readMark(
  mode: KernelMode,
  options: Options,
): Promise<ReadonlyMap<string, string> | undefined> {
  for (const family of FAMILIES) {
    for (const programs of iptablesCandidates(family)) {
      const loaded = await readIfThere(programs, options);
      const found = loaded && markIn(loaded, mode);
      if (found !== undefined) return found;
    }
  }
  return undefined;
}

/** @throws {CommandError} */
export async function writeMark(
  programs: IptablesPrograms,
  { mode, originals }: {
    mode: KernelMode;
    originals: ReadonlyMap<string, string>;
  },
  options: Options,
): Promise<void> {
  await restoreRules(programs, markText(mode, originals), options);
}

/** @throws {CommandError} */
export async function removeMark(options: Options): Promise<void> {
  for (const family of FAMILIES) {
    for (const programs of iptablesCandidates(family)) {
      const loaded = await readIfThere(programs, options);
      if (!loaded?.chains.has(`mangle ${KUBE_PORTAL_MODE}`)) continue;
      const text = `*mangle\n-F ${KUBE_PORTAL_MODE}\n-X ${KUBE_PORTAL_MODE}\n` +
        "COMMIT\n";
      try {
        await restoreRules(programs, text, options);
      } catch (error) {
        if (!isProgramMissing(error)) throw error;
      }
    }
  }
}
