/**
 * Where and when numbers were taken, and of what.
 *
 * @module
 */
import { REPOSITORY } from "../support/kube_portal.ts";
import { peerVersions } from "./subjects.ts";

export interface Machine {
  readonly date: string;
  readonly commit: string;
  readonly cpu: string;
  readonly cpus: number;
  readonly memoryMiB: number;
  readonly kernel: string;
  readonly arch: string;
  readonly deno: string;
  readonly peers: Readonly<Record<string, string>>;
}

export function describeMachine(): Machine {
  const cpus = Deno.readTextFileSync("/proc/cpuinfo");
  return {
    date: new Date().toISOString(),
    commit: commit(),
    cpu: /model name\s*: (.*)/.exec(cpus)?.[1] ?? "unknown",
    cpus: navigator.hardwareConcurrency,
    memoryMiB: Math.round(Deno.systemMemoryInfo().total / 1024 ** 2),
    kernel: Deno.osRelease(),
    arch: Deno.build.arch,
    deno: Deno.version.deno,
    peers: peerVersions(),
  };
}

/** What was measured; with a `+` where files differ from it. */
function commit(): string {
  try {
    const { stdout, success } = new Deno.Command("git", {
      args: ["-C", REPOSITORY, "describe", "--always", "--dirty=+"],
    }).outputSync();
    return success ? new TextDecoder().decode(stdout).trim() : "unknown";
  } catch {
    return "unknown";
  }
}
