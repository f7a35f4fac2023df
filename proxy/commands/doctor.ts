/**
 * `kube-portal doctor`: looks at the machine and the cluster before the proxy is
 * started on them, and says what would not work and what to do about it.
 *
 * @module
 */
import {
  type ApiConfig,
  ConfigError,
  createApiClient,
  loadApiConfig,
} from "../../watch/mod.ts";
import { systemRunner } from "../rules/command.ts";
import type { SteeringRequest } from "../rules/mod.ts";
import { clusterFindings } from "./doctor_cluster.ts";
import { type Finding, findingsText } from "./doctor_finding.ts";
import { machineFindings } from "./doctor_machine.ts";
import { DOCTOR_FLAGS } from "./flag_tables.ts";
import { type FlagValues, parseFlags } from "./flags.ts";
import { print } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

/** For all of it: whoever calls a doctor is in a hurry. */
const TIMEOUT_MS = 30_000;

/** @returns 1 if something would not work */
export async function doctorCommand(args: readonly string[]): Promise<number> {
  const flags = parseFlags(args, DOCTOR_FLAGS);
  await setupLogging({ v: "0", "logging-format": "text" }, { quiet: true });
  const signal = AbortSignal.timeout(TIMEOUT_MS);
  const findings = [
    ...await machineFindings({
      steer: flags.steer as SteeringRequest,
      runner: systemRunner,
      signal,
    }),
    ...await clusterPart(flags, signal),
  ];
  const ok = findings.every(({ level }) => level !== "fail");
  print(
    flags.json
      ? `${JSON.stringify({ ok, findings }, null, 2)}\n`
      : findingsText(findings),
  );
  return ok ? 0 : 1;
}

async function clusterPart(
  flags: FlagValues<typeof DOCTOR_FLAGS>,
  signal: AbortSignal,
): Promise<Finding[]> {
  const { kubeconfig, context, master } = flags;
  let config: ApiConfig;
  try {
    config = await loadApiConfig({
      kubeconfig,
      context,
      master,
      env: Deno.env,
    });
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const isAsked = kubeconfig !== undefined || context !== undefined ||
      master !== undefined;
    return [{
      check: "cluster",
      level: isAsked ? "fail" : "warn",
      found: `not looked at: ${error.message}`,
    }];
  }
  using client = createApiClient(config);
  return await clusterFindings({
    config,
    client,
    steer: flags.steer as SteeringRequest,
    runner: systemRunner,
    nodeName: (flags["hostname-override"] ?? Deno.hostname()).toLowerCase(),
    signal,
  });
}
