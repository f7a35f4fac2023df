/**
 * The program as its users start it: `main.ts` in a process of its own, with
 * the permissions that deno.json's tasks give it and an environment that holds
 * nothing of this machine's (no KUBECONFIG, no home).
 *
 * @module
 */
import { Child } from "./child.ts";
import { findProgram } from "./needs.ts";
import type { Namespace } from "./netns.ts";

export const REPOSITORY = new URL("../../", import.meta.url).pathname;

/** Longer than any command takes to say that it cannot do something. */
const RUN_TIMEOUT_MS = 30_000;

export interface KubePortalOptions {
  /** Whose permissions it gets. Default: `start`. */
  readonly task?: "start" | "start:portable" | "demo";
  /** Beside PATH, HOME and what Deno needs. */
  readonly env?: Record<string, string>;
  /** Where it runs. Default: here. */
  readonly namespace?: Namespace | undefined;
  /** Programs that start the next one, as `setpriv` does. */
  readonly prefix?: readonly string[];
}

/** Starts it; dispose the child. It is killed if this process dies before. */
export function startKubePortal(
  args: readonly string[],
  options: KubePortalOptions = {},
): Child {
  const command = commandLine(args, options);
  const env = environment(options);
  if (options.namespace !== undefined) {
    return options.namespace.start(command, { env, clearEnv: true });
  }
  const die = findProgram("setpriv") === undefined
    ? []
    : ["setpriv", "--pdeathsig", "KILL"];
  const [program = "", ...rest] = [...die, ...command];
  return new Child([program, ...rest], { env, clearEnv: true });
}

export interface Ended {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs it to its end, which it must find by itself within 30 s. */
export async function runKubePortal(
  args: readonly string[],
  options: Omit<KubePortalOptions, "namespace"> = {},
): Promise<Ended> {
  const [program, ...rest] = commandLine(args, options);
  const { code, stdout, stderr } = await new Deno.Command(program, {
    args: rest,
    env: environment(options),
    clearEnv: true,
    stdin: "null",
    signal: AbortSignal.timeout(RUN_TIMEOUT_MS),
  }).output();
  const decoder = new TextDecoder();
  return {
    code,
    stdout: decoder.decode(stdout),
    stderr: decoder.decode(stderr),
  };
}

/** Runs it in a namespace to its end; output is of both streams. */
export async function runKubePortalIn(
  namespace: Namespace,
  args: readonly string[],
): Promise<{ readonly code: number; readonly output: string }> {
  await using child = startKubePortal(args, { namespace });
  const { code } = await child.status;
  await child.ended;
  return { code, output: child.output };
}

/** The task's own command line, with this Deno and more arguments. */
function commandLine(
  args: readonly string[],
  { task = "start", prefix = [] }: KubePortalOptions,
): [string, ...string[]] {
  const [, ...words] = tasks()[task]?.split(" ") ?? [];
  const [program = "", ...rest] = [
    ...prefix,
    Deno.execPath(),
    ...words.map((word) => word === "main.ts" ? `${REPOSITORY}main.ts` : word),
    ...args,
  ];
  return [program, ...rest];
}

let cachedTasks: Record<string, string> | undefined;

function tasks(): Record<string, string> {
  cachedTasks ??= (JSON.parse(
    Deno.readTextFileSync(`${REPOSITORY}deno.json`),
  ) as { tasks: Record<string, string> }).tasks;
  return cachedTasks;
}

function environment({ env }: KubePortalOptions): Record<string, string> {
  return {
    PATH: Deno.env.get("PATH") ?? "",
    HOME: "/nonexistent",
    DENO_DIR: denoDir(),
    DENO_NO_UPDATE_CHECK: "1",
    NO_COLOR: "1",
    ...env,
  };
}

let cachedDenoDir: string | undefined;

/** Where packages are cached: with another HOME it would be elsewhere. */
function denoDir(): string {
  if (cachedDenoDir === undefined) {
    const { stdout } = new Deno.Command(Deno.execPath(), {
      args: ["info", "--json"],
    }).outputSync();
    cachedDenoDir = (JSON.parse(new TextDecoder().decode(stdout)) as {
      denoDir: string;
    }).denoDir;
  }
  return cachedDenoDir;
}

/** A port that was free on 127.0.0.1 a moment ago. */
export function freePort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  listener.close();
  return listener.addr.port;
}
