/**
 * What a machine allows the proxy: privileges, programs, descriptors, ports, and
 * who else is on it. Asks programs, or tries and gives back what it took; it
 * changes nothing. `/proc` cannot be read by Deno itself without `--allow-all`.
 *
 * @module
 */
import { systemClock } from "../../watch/mod.ts";
import { HEALTHZ_PORT, METRICS_PORT } from "../config/mod.ts";
import { chooseEngine } from "../engine/choose_engine.ts";
import { CommandError, type CommandRunner } from "../rules/command.ts";
import {
  LEFTOVERS_ADVICE,
  readLeftovers,
  steeringLockHolder,
  type SteeringRequest,
} from "../rules/mod.ts";
import { descriptorLimit } from "./descriptor_limit.ts";
import { programOutput } from "./program_output.ts";
import type { Finding, Level } from "./doctor_finding.ts";
import { forwardingFindings } from "./doctor_packets.ts";
import { errorLine } from "./errors.ts";

export interface MachineOptions {
  /** What it is to do here: what `redirect` and `route` lack fails. */
  readonly steer: SteeringRequest;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** Bits of a capability set (linux/capability.h). */
const CAP_NET_ADMIN = 12n;
const CAP_SYS_ADMIN = 21n;
/** Two sockets a connection, and two pipes while `splice` moves its bytes. */
const DESCRIPTORS_OF_CONNECTION = 6;
const DESCRIPTORS_ENOUGH = 16_384;

/** In the order in which they are printed. */
export async function machineFindings(
  options: MachineOptions,
): Promise<Finding[]> {
  if (Deno.build.os !== "linux") {
    return [{
      check: "system",
      level: options.steer === "auto" || options.steer === "none"
        ? "warn"
        : "fail",
      found: `${Deno.build.os}: packets are steered on Linux only`,
      advice: "use --steer none, and reach Services at the addresses it logs",
    }, ...await portFindings()];
  }
  return [
    ...await capabilities(options),
    lowPorts(options),
    ...await programs(options),
    ...await forwardingFindings(options),
    ...await leftovers(options),
    await descriptors(options),
    await engine(),
    ...await portFindings(),
  ];
}

/** What steering cannot do without: then only `none` is left. */
function unsteerable({ steer }: MachineOptions): Level {
  if (steer === "none") return "ok";
  return steer === "auto" ? "warn" : "fail";
}

/** Of a program that we start: it is programs that steer. */
async function capabilities(options: MachineOptions): Promise<Finding[]> {
  const status = await programOutput(options, "cat", "/proc/self/status");
  const hex = /^CapEff:\s*([0-9a-f]+)$/m.exec(status ?? "")?.[1];
  if (hex === undefined) {
    const found = "cannot be found out here";
    return [{ check: "capabilities", level: "warn", found }];
  }
  const has = (bit: bigint) => ((BigInt(`0x${hex}`) >> bit) & 1n) === 1n;
  const there = "programs it starts have it";
  return [
    has(CAP_NET_ADMIN)
      ? { check: "CAP_NET_ADMIN", level: "ok", found: there }
      : {
        check: "CAP_NET_ADMIN",
        level: unsteerable(options),
        found: "missing: no routes and no rules, --steer none alone works",
        advice:
          "run as root or with CAP_NET_ADMIN, or in a network namespace of your own (unshare -Urn)",
      },
    has(CAP_SYS_ADMIN)
      ? { check: "CAP_SYS_ADMIN", level: "ok", found: there }
      : {
        check: "CAP_SYS_ADMIN",
        // Only `portal` wants it, and most do without that.
        level: options.steer === "portal" ? "fail" : "ok",
        found: "missing: no --steer portal",
      },
  ];
}

/** An address that nobody else uses; 127.0.0.0/8 is ours as a whole. */
const TRIED_ADDRESS = "127.86.79.82";

function lowPorts({ steer }: MachineOptions): Finding {
  const check = "ports below 1024";
  for (const port of [1, 1023]) {
    try {
      Deno.listen({ hostname: TRIED_ADDRESS, port }).close();
    } catch (error) {
      if (!(error instanceof Deno.errors.PermissionDenied)) continue;
      return {
        check,
        level: steer === "redirect" ? "ok" : "warn",
        found: "cannot be listened on; --steer redirect does not need it",
        advice:
          "grant CAP_NET_BIND_SERVICE, or set the sysctl net.ipv4.ip_unprivileged_port_start",
      };
    }
  }
  return { check, level: "ok", found: "can be listened on" };
}

async function programs(options: MachineOptions): Promise<Finding[]> {
  const { steer } = options;
  const findings: Finding[] = [];
  const ip = await programOutput(options, "ip", "-V");
  findings.push(
    ip === undefined
      ? {
        check: "ip",
        level: unsteerable(options),
        found: "not on the PATH: nothing can be steered",
        advice: "install iproute2",
      }
      : { check: "ip", level: "ok", found: firstLine(ip) },
  );
  const iptables = await programOutput(options, "iptables", "--version");
  const nft = await programOutput(options, "nft", "--version");
  const found = [iptables, nft].filter((text) => text !== undefined)
    .map(firstLine);
  // `iptables v1.8.11 (nf_tables)` says which of the kernel's two it writes to.
  if (found.length > 0) {
    const versions = found.join(" and ");
    const problem = await rulesProblem(options, iptables !== undefined);
    findings.push(
      problem === undefined
        ? { check: "rules", level: "ok", found: versions }
        : {
          check: "rules",
          level: steer === "redirect" ? "fail" : "warn",
          found: `${versions}, but rules cannot be read: ${problem}`,
          advice: "--steer route needs no rules",
        },
    );
  } else {
    findings.push({
      check: "rules",
      level: steer === "redirect" ? "fail" : steer === "none" ? "ok" : "warn",
      found: "neither iptables nor nft is on the PATH: no --steer redirect",
      advice: "install iptables or nftables",
    });
  }
  return findings;
}

/** Reading is what shows whether the kernel and our privileges go along. */
async function rulesProblem(
  { runner, signal }: MachineOptions,
  hasIptables: boolean,
): Promise<string | undefined> {
  try {
    await runner.run(
      hasIptables
        ? ["iptables", "-w", "1", "-t", "nat", "-S"]
        : ["nft", "list", "tables"],
      { signal },
    );
    return undefined;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    return firstLine(error.stderr) || error.message;
  }
}

async function leftovers(
  { runner, signal }: MachineOptions,
): Promise<Finding[]> {
  const found = await readLeftovers(runner, signal);
  if (found.length === 0) {
    return [{
      check: "kube-proxy",
      level: "ok",
      found: "has left nothing on this machine, as far as can be read",
    }];
  }
  return found.map(({ mode, what }) => ({
    check: "kube-proxy",
    level: "warn" as const,
    found: `is here, or was (${mode} mode): ${what}`,
    advice: LEFTOVERS_ADVICE,
  }));
}

async function descriptors(options: MachineOptions): Promise<Finding> {
  const check = "descriptors";
  const limit = await descriptorLimit(options.runner, options.signal);
  if (limit === undefined) {
    return { check, level: "warn", found: "their limit cannot be found out" };
  }
  const connections = Math.floor(limit / DESCRIPTORS_OF_CONNECTION);
  const found = `${limit} at most: ${connections} connections, or more`;
  return limit >= DESCRIPTORS_ENOUGH ? { check, level: "ok", found } : {
    check,
    level: "warn",
    found,
    advice: "raise it: ulimit -n, LimitNOFILE= of systemd",
  };
}

async function engine(): Promise<Finding> {
  const check = "engine";
  try {
    await using choice = (await chooseEngine("splice", { clock: systemClock }))
      .engine;
    return { check, level: "ok", found: `${choice.name} runs here` };
  } catch (error) {
    return {
      check,
      level: "warn",
      found: `portable; ${errorLine(error)}`,
      advice: "--allow-ffi for the C library, where less CPU for TCP matters",
    };
  }
}

/** Who has the ports, as far as that is ours to know. */
async function portFindings(): Promise<Finding[]> {
  const holder = await steeringLockHolder();
  const findings: Finding[] = [
    holder === undefined
      ? { check: "other proxy", level: "ok", found: "none steers here" }
      : {
        check: "other proxy",
        level: "warn",
        found: `kube-portal (${holder.heldBy}) steers this machine already`,
        advice:
          "stop it before another is started, or start that with --take-over",
      },
  ];
  for (
    const [name, hostname, port, flag] of [
      ["health", "0.0.0.0", HEALTHZ_PORT, "healthz-bind-address"],
      ["metrics", "127.0.0.1", METRICS_PORT, "metrics-bind-address"],
    ] as const
  ) {
    const check = `${name} port`;
    try {
      Deno.listen({ hostname, port }).close();
      findings.push({ check, level: "ok", found: `${port} is free` });
    } catch (error) {
      const isOurs = holder !== undefined;
      findings.push({
        check,
        // A proxy ends where it cannot tell its health, and goes on without
        // metrics.
        level: name === "health" && !isOurs ? "fail" : "warn",
        found: `${hostname}:${port} cannot be had: ${errorLine(error)}`,
        advice: isOurs
          ? "it may be that kube-portal's"
          : `stop who has it (ss -ltnp), or use --${flag}`,
      });
    }
  }
  return findings;
}

function firstLine(text: string): string {
  return text.trim().split("\n", 1)[0] ?? "";
}
