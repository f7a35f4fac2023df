/**
 * Whether packets get where steering wants them: routes and forwarding of the
 * machine, which no strategy changes. Asks programs; changes nothing.
 *
 * @module
 */
import type { CommandRunner } from "../rules/command.ts";
import { type SteeringRequest, whyUnreached } from "../rules/mod.ts";
import { programOutput } from "./program_output.ts";
import type { Finding } from "./doctor_finding.ts";

export interface PacketOptions {
  readonly steer: SteeringRequest;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** Whether the node's own clients would come to the rules of `redirect`. */
export async function routeFinding(
  cidrs: readonly string[],
  { steer, runner, signal }: PacketOptions,
): Promise<Finding | undefined> {
  const isRelevant = steer === "auto" || steer === "redirect";
  if (!isRelevant || cidrs.length === 0 || Deno.build.os !== "linux") {
    return undefined;
  }
  const check = "route to Services";
  const why = await whyUnreached(cidrs, { runner, signal });
  if (why === undefined) {
    return {
      check,
      level: "ok",
      found: "there is one: the node's own clients come to rules",
    };
  }
  return {
    check,
    level: "warn",
    found: `${why}: the node's own clients do not come to rules`,
    advice: steer === "auto"
      ? "auto takes --steer route, or portal; a default route would do, too"
      : "use --steer route, or add a route: the default one will do",
  };
}

/** What `portal` needs for pods: their packets go through the node. */
export async function forwardingFindings(
  options: PacketOptions,
): Promise<Finding[]> {
  const { steer } = options;
  if (steer !== "auto" && steer !== "portal") return [];
  const findings: Finding[] = [];
  const off = await switchedOff(options);
  const forPods = steer === "auto"
    ? "auto passes portal over for that"
    : "pods cannot reach Services by --steer portal";
  findings.push(
    off.length === 0 ? { check: "forwarding", level: "ok", found: "on" } : {
      check: "forwarding",
      level: steer === "portal" ? "warn" : "ok",
      found: `off (${off.join(", ")}): ${forPods}`,
      advice: off.map((name) => `sysctl -w ${name}=1`).join("; "),
    },
  );
  const dropping = await droppingChains(options);
  if (dropping.length > 0) {
    findings.push({
      check: "FORWARD chain",
      level: "warn",
      found: `drops what no rule lets pass (${
        dropping.join(", ")
      }): unless one does, ${forPods}`,
      advice:
        "let pass what goes to and comes from kube-portal0: iptables -I FORWARD -o kube-portal0 -j ACCEPT; iptables -I FORWARD -i kube-portal0 -j ACCEPT",
    });
  }
  return findings;
}

/** IPv6's is no finding: most nodes have it off, and no IPv6 Services. */
const SWITCHES: Readonly<Record<string, string>> = {
  "net.ipv4.ip_forward": "/proc/sys/net/ipv4/ip_forward",
};

async function switchedOff(options: PacketOptions): Promise<string[]> {
  const off: string[] = [];
  for (const [name, path] of Object.entries(SWITCHES)) {
    if ((await programOutput(options, "cat", path))?.trim() === "0") {
      off.push(name);
    }
  }
  return off;
}

/** Each as a person calls it. */
async function droppingChains(options: PacketOptions): Promise<string[]> {
  const chains: string[] = [];
  for (const program of ["iptables", "iptables-legacy"]) {
    const rules = await programOutput(
      options,
      program,
      "-w",
      "1",
      "-S",
      "FORWARD",
    );
    if (/^-P FORWARD (DROP|REJECT)$/m.test(rules ?? "")) {
      chains.push(`the policy of ${program}`);
    }
  }
  const listed = await programOutput(options, "nft", "list", "chains") ?? "";
  let table = "";
  let chain = "";
  for (const line of listed.split("\n")) {
    table = /^table (.*) \{$/.exec(line)?.[1] ?? table;
    chain = /^\s+chain (.*) \{$/.exec(line)?.[1] ?? chain;
    // Those that iptables shows are told of already.
    const isTold = /^ip6? filter$/.test(table) && chain === "FORWARD";
    if (/hook forward .*policy drop/.test(line) && !isTold) {
      chains.push(`chain ${chain} of nft table ${table}`);
    }
  }
  return chains;
}
