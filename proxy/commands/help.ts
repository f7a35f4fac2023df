/**
 * What `--help` prints: the commands, then the flags of one of them.
 *
 * @module
 */
import {
  APISERVER_FLAGS,
  CLEANUP_FLAGS,
  DAEMONSET_FLAGS,
  DEMO_FLAGS,
  DOCTOR_FLAGS,
  EXPLAIN_FLAGS,
  RENDER_FLAGS,
  RUN_FLAGS,
  STATUS_FLAGS,
} from "./flag_tables.ts";
import { flagsHelp, type FlagSpecs } from "./flags.ts";
import { UserError } from "./errors.ts";

interface CommandHelp {
  readonly usage: string;
  readonly summary: string;
  readonly flags: FlagSpecs;
}

const COMMANDS: Readonly<Record<string, CommandHelp>> = {
  run: {
    usage: "kube-portal [run] [flags]",
    summary:
      "The proxy: follows an API server and forwards every ClusterIP to its endpoints",
    flags: RUN_FLAGS,
  },
  demo: {
    usage: "kube-portal demo [flags]",
    summary:
      "A cluster in one process on loopback addresses: API server, Services, endpoints, proxy",
    flags: DEMO_FLAGS,
  },
  apiserver: {
    usage: "kube-portal apiserver [flags]",
    summary: "An API server for development, for kubectl and the proxy",
    flags: APISERVER_FLAGS,
  },
  doctor: {
    usage: "kube-portal doctor [flags]",
    summary:
      "What this machine and cluster allow, and what to do about the rest",
    flags: DOCTOR_FLAGS,
  },
  explain: {
    usage:
      "kube-portal explain NAMESPACE/SERVICE[:PORT]|IP:PORT|:NODEPORT [--from pod|node|outside|IP] [flags]",
    summary:
      "What happens to a connection to a Service, hop by hop, in each proxy mode",
    flags: EXPLAIN_FLAGS,
  },
  render: {
    usage: "kube-portal render --proxy-mode iptables|ipvs|nftables [flags]",
    summary:
      "Prints the exact program that a kernel mode would load for the cluster",
    flags: RENDER_FLAGS,
  },
  daemonset: {
    usage:
      "kube-portal daemonset --server https://HOST:PORT | kubectl apply -f -",
    summary: "Prints what installs the proxy on every node of a cluster",
    flags: DAEMONSET_FLAGS,
  },
  status: {
    usage: "kube-portal status [flags]",
    summary: "What the running proxy does: Services, endpoints, connections",
    flags: STATUS_FLAGS,
  },
  dashboards: {
    usage: "kube-portal dashboards grafana|alerts",
    summary: "Prints a Grafana dashboard, or alert rules for Prometheus",
    flags: {},
  },
  cleanup: {
    usage: "kube-portal cleanup [flags]",
    summary: "Removes every rule and route the proxy could have installed",
    flags: CLEANUP_FLAGS,
  },
  version: {
    usage: "kube-portal version",
    summary: "Prints the version",
    flags: {},
  },
};

/**
 * @param command one command's help; all of them in short without it
 * @throws {UserError} for a command there is not
 */
export function helpText(command?: string): string {
  if (command === undefined) return overview();
  const help = COMMANDS[command];
  if (help === undefined) {
    throw new UserError(
      `Unknown command "${command}"; see kube-portal --help`,
    );
  }
  const flags = Object.keys(help.flags).length === 0
    ? ""
    : `\nFlags:\n${flagsHelp(help.flags)}`;
  return `${help.summary}.\n\nUsage:\n  ${help.usage}\n${flags}`;
}

function overview(): string {
  const commands = Object.entries(COMMANDS).map(([name, { summary }]) =>
    `  ${name.padEnd(11)}${summary}\n`
  );
  return `kube-portal is a userspace kube-proxy: Services reach their endpoints without a
kernel module, netfilter or conntrack.

Usage:
  kube-portal [command] [flags]

Commands:
${commands.join("")}
With flags only it runs the proxy. Start with "kube-portal demo"; every command
explains its flags: "kube-portal run --help".
`;
}
