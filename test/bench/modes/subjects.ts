/**
 * The modes of this program that are compared, and a proxy of each on its node.
 *
 * @module
 */
import type { Child } from "../../support/child.ts";
import { startKubePortal } from "../../support/kube_portal.ts";
import type { Need } from "../../support/needs.ts";
import { program } from "../../support/needs.ts";
import { CLUSTER_CIDR, type ModesNetwork, refuseServices } from "./network.ts";

interface Mode {
  readonly args: readonly string[];
  /** Whether packets are led by the kernel's rules, with no listener. */
  readonly kernel: boolean;
  readonly needs: readonly Need[];
}

/**
 * No pause between two writes of rules, in every mode: a change is to be timed,
 * not how long it waits for its turn (a second, where nothing is said).
 */
const NO_PAUSE = "--iptables-min-sync-period=0s";

const MODES: Readonly<Record<string, Mode>> = {
  portable: {
    args: ["--steer=route", "--engine=portable", NO_PAUSE],
    kernel: false,
    needs: [],
  },
  splice: {
    args: ["--steer=route", "--engine=splice", NO_PAUSE],
    kernel: false,
    needs: [],
  },
  iptables: {
    args: ["--proxy-mode=iptables", NO_PAUSE],
    kernel: true,
    needs: [program("iptables"), program("ip6tables")],
  },
  nftables: {
    args: ["--proxy-mode=nftables", NO_PAUSE],
    kernel: true,
    needs: [program("nft")],
  },
};

/** In the order of tables. */
export const MODE_NAMES: readonly string[] = Object.keys(MODES);

/** Why this machine cannot run that mode; nothing: it can. */
export function missingFor(mode: string): string | undefined {
  for (const need of MODES[mode]!.needs) {
    const why = need();
    if (why !== undefined) return why;
  }
  return undefined;
}

/** A start that takes longer is given up, and the comparison says so. */
export const START_TIMEOUT_MS = 100_000;

/** A proxy that has made everything so, and how long that took it. */
export interface StartedProxy {
  readonly child: Child;
  /** From the start of the process to its first sync. */
  readonly readyMs: number;
}

/**
 * Starts the proxy of this mode on its node.
 *
 * @returns nothing if it is not ready in {@linkcode START_TIMEOUT_MS}
 * @throws with its output, if it ends
 */
export async function startMode(
  mode: string,
  network: ModesNetwork,
  server: string,
): Promise<StartedProxy | undefined> {
  const { args, kernel } = MODES[mode]!;
  const namespace = network.node(mode);
  if (kernel) await refuseServices(namespace);
  const startedAt = performance.now();
  const child = startKubePortal([
    `--master=${server}`,
    `--hostname-override=${mode}`,
    `--cluster-cidr=${CLUSTER_CIDR}`,
    "--healthz-bind-address=",
    "--metrics-bind-address=",
    ...args,
  ], { namespace });
  try {
    await child.waitFor(" Ready ", START_TIMEOUT_MS);
  } catch (error) {
    await child[Symbol.asyncDispose]();
    if (performance.now() - startedAt >= START_TIMEOUT_MS) return undefined;
    throw error;
  }
  return { child, readyMs: performance.now() - startedAt };
}
