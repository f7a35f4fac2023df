/**
 * Finds out in which form this kernel takes rules, by loading them into a chain
 * that no packet comes through. Poor kernels lack matches, and say so only
 * then.
 *
 * @module
 */
import { SteeringError } from "../steering.ts";
import { CommandError, type CommandRunner } from "./command.ts";
import {
  type IptablesPrograms,
  iptablesReason,
  isRefusal,
  readRules,
  restoreRules,
} from "./iptables_programs.ts";
import {
  frameRules,
  type IptablesForm,
  ownPart,
  PORTALS_PROBE,
  redirectionRules,
} from "./iptables_rules.ts";
import {
  type ChainName,
  lineOf,
  renderTransaction,
  type RuleLine,
  ruleParts,
  ruleTarget,
} from "./iptables_text.ts";
import { REDIRECT_TARGETS } from "./redirection.ts";

export interface ProbeOptions {
  readonly programs: IptablesPrograms;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** In the order in which they are preferred: `raw` costs the least. */
const GUARDS = ["raw", "mangle", "filter"] as const;

/**
 * The fullest form in which the kernel takes rules. Asks once where nothing is
 * missing, else for each thing by itself.
 *
 * @throws {SteeringError} if it takes none
 */
export async function probeForm(
  family: IptablesForm["family"],
  options: ProbeOptions,
): Promise<IptablesForm> {
  const target = REDIRECT_TARGETS[family];
  const full: IptablesForm = {
    family,
    target,
    comments: true,
    addrtype: true,
    guard: "raw",
  };
  if (await refusalOf(full, options) === undefined) return full;
  const bare: IptablesForm = {
    family,
    comments: false,
    addrtype: false,
    guard: "none",
  };
  const why = await refusalOf(bare, options);
  if (why !== undefined) {
    throw new SteeringError(
      `Cannot load a rule with ${options.programs.restore}: ${why}`,
    );
  }
  const takes = async (more: Partial<IptablesForm>) =>
    await refusalOf({ ...bare, ...more }, options) === undefined;
  const form: IptablesForm = {
    ...bare,
    comments: await takes({ comments: true }),
    addrtype: await takes({ addrtype: true }),
    ...await takes({ target }) ? { target } : {},
  };
  return { ...form, guard: await probeGuard(form, options) };
}

/** The first table in which packets can be kept from the back door. */
export async function probeGuard(
  form: IptablesForm,
  options: ProbeOptions,
): Promise<IptablesForm["guard"]> {
  for (const guard of GUARDS) {
    if (await refusalOf({ ...form, guard }, options) === undefined) {
      return guard;
    }
  }
  return "none";
}

/** Whether the kernel takes rules that ask these sets, which must be there. */
export async function takesSets(
  form: IptablesForm,
  options: ProbeOptions,
): Promise<boolean> {
  return await refusalOf(form, options) === undefined;
}

/** Why the kernel does not take this form; `undefined` if it does. */
async function refusalOf(
  form: IptablesForm,
  options: ProbeOptions,
): Promise<string | undefined> {
  const { programs } = options;
  const rules = probeRules(form);
  const chains = [
    ...new Set(
      rules.map((rule): ChainName =>
        `${ruleParts(rule).table} ${PORTALS_PROBE}`
      ),
    ),
  ];
  try {
    const text = renderTransaction({ newChains: chains, append: rules });
    await restoreRules(programs, text, options);
    const removal = renderTransaction({ oldChains: chains });
    await restoreRules(programs, removal, options);
    return undefined;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    // Each table is taken by itself: one may have been before another was not.
    if (isRefusal(error)) await removeProbes(options);
    return iptablesReason(await clearerError(error, options));
  }
}

/**
 * The older iptables says in one way that there is no such table, and that we
 * may not write it. Listing a chain tells the two apart.
 */
async function clearerError(
  error: CommandError,
  { programs, runner, signal }: ProbeOptions,
): Promise<CommandError> {
  if (!error.stderr.includes("unable to initialize table")) return error;
  try {
    const list = [programs.name, "-t", "nat", "-S", "PREROUTING"] as const;
    await runner.run([...list], { signal });
    return error;
  } catch (clearer) {
    if (!(clearer instanceof CommandError)) throw clearer;
    return clearer;
  }
}

/** Every rule that the form has, in the chain of the probe. */
function probeRules(form: IptablesForm): RuleLine[] {
  const ip = form.family === "IPv4" ? "192.0.2.1" : "2001:db8::1";
  const sample = { ip, isNodePort: false, name: "probe", port: 1 };
  const rules = [
    ...frameRules(form),
    ...(["TCP", "UDP"] as const).flatMap((protocol) =>
      redirectionRules({ ...sample, protocol, proxyPort: 1 }, form)
    ),
  ];
  return [
    ...new Set(rules.map((rule) => {
      const { table, rest } = ruleParts(rule);
      const target = ruleTarget(rule);
      const words = rest.map((word, at) =>
        word === target && rest[at - 1] === "-j" && word.startsWith("KUBE-")
          ? "RETURN"
          : word
      );
      return `${table} ${lineOf(["-A", PORTALS_PROBE, ...words])}` as RuleLine;
    })),
  ];
}

/** Removes what a probe left that was not taken, or did not end. */
export async function removeProbes(options: ProbeOptions): Promise<void> {
  const { programs } = options;
  try {
    const { chains } = ownPart(await readRules(programs, options));
    const oldChains = [...chains].filter((name) =>
      name.endsWith(` ${PORTALS_PROBE}`)
    );
    if (oldChains.length === 0) return;
    await restoreRules(programs, renderTransaction({ oldChains }), options);
  } catch (error) {
    // No packet comes through it, and `cleanup` removes it too.
    if (!(error instanceof CommandError)) throw error;
  }
}
