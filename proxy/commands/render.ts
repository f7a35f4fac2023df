/**
 * `kube-portal render`: prints the program that a kernel mode would load for
 * the cluster as it is, and nothing else, so that it can be piped into
 * `iptables-restore`, `ipvsadm --restore` or `nft -f`.
 *
 * @module
 */
import type { IpFamily } from "../ip.ts";
import { interfaceAddresses } from "../rules/mod.ts";
import { isKernelMode } from "../rules/modes/mod.ts";
import {
  KERNEL_MODES,
  type KernelMode,
  type ModeInput,
  modeInput,
} from "../rules/modes/mode_input.ts";
import { compileNftables } from "../rules/modes/nftables/compile.ts";
import { tableText } from "../rules/modes/nftables/text.ts";
import { compileIpvs } from "../rules/modes/ipvs/compile.ts";
import {
  IPVS_PARTS,
  type IpvsPartName,
  ipvsPartText,
  scriptText,
} from "../rules/modes/ipvs/text.ts";
import { compileIptables } from "../rules/modes/iptables/compile.ts";
import { programText as iptablesText } from "../rules/modes/iptables/text.ts";
import { modeSettings } from "./config_meaning.ts";
import { UserError } from "./errors.ts";
import { RENDER_FLAGS } from "./flag_tables.ts";
import { parseGivenFlags } from "./flags.ts";
import { loadSettings } from "./settings.ts";
import { readSnapshot } from "./snapshot.ts";
import { print } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

/** What can be asked for beside the Services' own rules. */
export interface RenderOptions {
  /** The rules that lead from the kernel's base chains. */
  readonly jumps: boolean;
  /** The rules that count by nfacct. */
  readonly nfacct: boolean;
  /** Of ipvs mode, whose program is for four tools; missing: all of it. */
  readonly part?: IpvsPartName | undefined;
}

type Renderer = (input: ModeInput, options: RenderOptions) => string;

/** Compiles and prints; a mode's compiler is `proxy/rules/modes/MODE/`. */
const RENDERERS: Readonly<Record<KernelMode, Renderer>> = {
  nftables: (input) => tableText(compileNftables(input)),
  ipvs: (input, { part, jumps }) => {
    const program = compileIpvs(input);
    return part === undefined
      ? scriptText(program, { jumps })
      : ipvsPartText(program, part, { jumps });
  },
  iptables: (input, { jumps, nfacct }) =>
    iptablesText(compileIptables(input, { nfacct }), { jumps }),
};

const FAMILIES: Readonly<Record<string, IpFamily>> = {
  ipv4: "IPv4",
  ipv6: "IPv6",
};

export async function renderCommand(args: readonly string[]): Promise<number> {
  const { values: flags, given } = parseGivenFlags(args, RENDER_FLAGS);
  await setupLogging(flags, { quiet: true });
  // The mode is no setting here: one can render what does not run.
  const settingsGiven = new Set(given);
  settingsGiven.delete("proxy-mode");
  const { config } = await loadSettings({
    values: flags,
    given: settingsGiven,
  });
  const mode = flags["proxy-mode"] ?? config.mode;
  if (!isKernelMode(mode)) {
    throw new UserError(
      `Flag --proxy-mode is needed: want ${KERNEL_MODES.join(", ")}`,
    );
  }
  if (flags.part !== undefined && mode !== "ipvs") {
    throw new UserError(
      `Flag --part is for ipvs mode: the program of ${mode} mode is one`,
    );
  }
  const snapshot = await readSnapshot(flags, config);
  const input = modeInput({
    ...snapshot,
    mode,
    family: FAMILIES[flags["ip-family"]] ?? "IPv4",
    settings: modeSettings(config, flags.config ? mode : "iptables"),
    interfaceIps: interfaceAddresses(),
  });
  const { jumps, nfacct } = flags;
  const part = IPVS_PARTS.find((name) => name === flags.part);
  print(RENDERERS[mode](input, { jumps, nfacct, part }));
  return 0;
}
