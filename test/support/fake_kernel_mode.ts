/**
 * A kernel mode without a kernel: says what it was asked to write, and fails
 * when told to. With a clock and a command runner for whoever drives it.
 *
 * @module
 */
import type { IpFamily } from "../../proxy/ip.ts";
import { CommandError, type CommandRunner } from "../../proxy/rules/command.ts";
import type {
  KernelModeDriver,
  KernelProgrammer,
  ProgramResult,
  ProgramScope,
  Sysctl,
} from "../../proxy/rules/modes/kernel_programmer.ts";
import type { ModeInput } from "../../proxy/rules/modes/mode_input.ts";

export class FakeProgrammer implements KernelProgrammer {
  readonly family: IpFamily;
  /** `all`, or the Services of each write, in order. */
  readonly writes: string[] = [];
  inputs: ModeInput[] = [];
  why: string | undefined;
  isBroken = false;
  /** What everything throws. */
  error: Error | undefined;
  isThere = true;

  constructor(family: IpFamily) {
    this.family = family;
  }

  obstacle(): Promise<string | undefined> {
    return Promise.resolve(this.why);
  }

  program(input: ModeInput, scope: ProgramScope): Promise<ProgramResult> {
    if (this.error !== undefined) return Promise.reject(this.error);
    if (this.isBroken) {
      const command = ["restore"];
      return Promise.reject(new CommandError("no memory", { command }));
    }
    this.inputs.push(input);
    this.writes.push(scope.full ? "all" : [...scope.changed].sort().join(" "));
    return Promise.resolve({ written: {}, total: {} });
  }

  isIntact(): Promise<boolean> {
    if (this.error !== undefined) return Promise.reject(this.error);
    return Promise.resolve(this.isThere);
  }

  cleanup(): Promise<void> {
    this.writes.push("cleanup");
    return Promise.resolve();
  }
}

export class FakeDriver implements KernelModeDriver {
  readonly mode = "iptables";
  readonly ipv4 = new FakeProgrammer("IPv4");
  readonly ipv6 = new FakeProgrammer("IPv6");
  readonly programmers = [this.ipv4, this.ipv6];
  wanted: Sysctl[] = [];
  mark: ReadonlyMap<string, string> | undefined;
  isMarkBroken = false;

  sysctls(): readonly Sysctl[] {
    return this.wanted;
  }

  readMark(): Promise<ReadonlyMap<string, string> | undefined> {
    return Promise.resolve(this.mark);
  }

  writeMark(originals: ReadonlyMap<string, string>): Promise<void> {
    if (this.isMarkBroken) {
      const command = ["mark"];
      return Promise.reject(new CommandError("lock is held", { command }));
    }
    this.mark = new Map(originals);
    return Promise.resolve();
  }

  removeMark(): Promise<void> {
    this.mark = undefined;
    return Promise.resolve();
  }
}

/** `cat` and `sh` over a /proc of its own, and a list of UDP flows. */
export class FakeProc implements CommandRunner {
  readonly values = new Map<string, string>();
  readonly deleted: string[] = [];
  isReadOnly = false;
  flows = "";
  hasConntrack = true;
  /** `conntrack` fails. */
  isBusy = false;

  run(
    command: readonly [string, ...string[]],
    { stdin = "" }: { stdin?: string } = {},
  ): Promise<string> {
    const [program] = command;
    if (program === "conntrack") {
      if (!this.hasConntrack) {
        const cause = new Deno.errors.NotFound();
        return failure(command, "no such program", cause);
      }
      if (this.isBusy) return failure(command, "Device or resource busy");
      if (command.includes("-L")) return Promise.resolve(this.flows);
      this.deleted.push(...stdin.trimEnd().split("\n"));
      return Promise.resolve("");
    }
    const path = command.at(-1) ?? "";
    const value = this.values.get(path);
    if (value === undefined) return failure(command, "No such file");
    if (program === "cat") return Promise.resolve(`${value}\n`);
    if (this.isReadOnly) {
      return failure(command, `sh: 1: ${path}: Read-only file system`);
    }
    this.values.set(path, command.at(-2) ?? "");
    return Promise.resolve("");
  }
}

function failure(
  command: readonly string[],
  stderr: string,
  cause?: unknown,
): Promise<never> {
  return Promise.reject(
    new CommandError(`Cannot run "${command[0]}": ${stderr}`, {
      command,
      exitCode: 2,
      stderr,
      cause,
    }),
  );
}
