/**
 * `kube-portal explain TARGET`: what happens to a connection to a Service, hop
 * by hop, in each proxy mode, and what is wrong with it. Reads the cluster once
 * and changes nothing; with `--manifests` it needs none.
 *
 * @module
 */
import {
  explain,
  EXPLAINED_MODES,
  type ExplainedMode,
  type Explanation,
  type Question,
} from "../explain/mod.ts";
import { mermaid } from "../explain/mermaid.ts";
import { ORIGINS } from "../explain/packet.ts";
import { picture } from "../explain/picture.ts";
import { TargetError } from "../explain/target.ts";
import { canonicalIp, type IpFamily } from "../ip.ts";
import { interfaceAddresses } from "../rules/mod.ts";
import { modeSettings } from "./config_meaning.ts";
import { UserError } from "./errors.ts";
import { EXPLAIN_FLAGS } from "./flag_tables.ts";
import { parseGivenFlags } from "./flags.ts";
import { loadSettings } from "./settings.ts";
import { readSnapshot } from "./snapshot.ts";
import { print } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

export async function explainCommand(args: readonly string[]): Promise<number> {
  const { values: flags, given, words: [target] } = parseGivenFlags(
    args,
    EXPLAIN_FLAGS,
    { wordsMax: 1 },
  );
  if (target === undefined) {
    throw new UserError(
      "A target is needed: want NAMESPACE/SERVICE, NAMESPACE/SERVICE:PORT, IP:PORT or :NODEPORT",
    );
  }
  if (flags.json && flags.mermaid) {
    throw new UserError("Cannot use --json together with --mermaid");
  }
  const client = clientFlag(flags.from);
  const family = familyOf(flags["ip-family"], [target, client]);
  await setupLogging(flags, { quiet: true });
  // The mode is no setting here: one can explain what does not run.
  const settingsGiven = new Set(given);
  settingsGiven.delete("proxy-mode");
  const { config } = await loadSettings({
    values: flags,
    given: settingsGiven,
  });
  const explanations = explained({
    ...await readSnapshot(flags, config),
    target,
    from: client,
    family,
    modes: flags["proxy-mode"] === "all"
      ? EXPLAINED_MODES
      : [flags["proxy-mode"] as ExplainedMode],
    settings: modeSettings(config),
    interfaceIps: interfaceAddresses(),
  });
  if (flags.json) print(JSON.stringify(explanations, null, 2) + "\n");
  else print(explanations.map(flags.mermaid ? mermaid : picture).join("\n"));
  return 0;
}

function explained(question: Question): Explanation[] {
  try {
    return explain(question);
  } catch (error) {
    if (error instanceof TargetError) throw new UserError(error.message);
    throw error;
  }
}

/** @throws {UserError} if it is neither a kind of client nor an address */
function clientFlag(text: string): string {
  const isKind = (ORIGINS as readonly string[]).includes(text);
  const client = isKind ? text : canonicalIp(text);
  if (client === undefined) {
    throw new UserError(
      `Invalid value "${text}" for --from: want ${
        ORIGINS.join(", ")
      } or an IP address`,
    );
  }
  return client;
}

/** An address among what was said decides, where the flag does not. */
function familyOf(
  flag: string | undefined,
  said: readonly string[],
): IpFamily {
  if (flag !== undefined) return flag === "ipv6" ? "IPv6" : "IPv4";
  const isIpv6 = said.some((text) => /^\[|^[0-9a-f]*:[0-9a-f]*:/i.test(text));
  return isIpv6 ? "IPv6" : "IPv4";
}
