/**
 * Making the program out of its sources: one file of JavaScript, then one
 * binary. What both may do is what deno.json's task `start` may.
 *
 * @module
 */

const ROOT = new URL("../../", import.meta.url).pathname;

/** For `deno run`, and what the binary is made of. Below the root. */
export const BUNDLE = "dist/kube-portal.js";
export const BINARY = "kube-portal";

/** A program of Deno's that did not do what it was asked. */
export class BuildError extends Error {
  override readonly name = "BuildError";
}

/**
 * The flags with which `deno task start` runs the proxy, and those it has from
 * deno.json.
 */
export function programFlags(): string[] {
  const { tasks, unstable } = JSON.parse(
    Deno.readTextFileSync(`${ROOT}deno.json`),
  ) as { tasks: Record<string, string>; unstable: string[] };
  const words = tasks["start"]?.split(" ") ?? [];
  return [
    ...words.slice(words.indexOf("run") + 1, words.indexOf("main.ts")),
    ...unstable.map((feature) => `--unstable-${feature}`),
  ];
}

/** Makes `BUNDLE`, and answers where it is. */
export async function bundle(output = `${ROOT}${BUNDLE}`): Promise<string> {
  await deno([
    "bundle",
    "--quiet",
    `--output=${output}`,
    "proxy/commands/single_file.ts",
  ]);
  return output;
}

/**
 * Makes a binary of a bundle. Of the bundle and not of `main.ts`: it is its own
 * worker, and needs no packages embedded.
 *
 * @param denort Deno's runtime to put it into; without it Deno fetches one
 * @throws {BuildError} also where there is no runtime to be had
 */
export async function compile(
  source: string,
  output: string,
  denort?: string,
): Promise<void> {
  await deno(
    ["compile", ...programFlags(), `--output=${output}`, source],
    denort === undefined ? {} : { DENORT_BIN: denort },
  );
}

/** Whether a build failed only since Deno's runtime could not be fetched. */
export function lacksRuntime(error: unknown): boolean {
  return error instanceof BuildError &&
    /dl\.deno\.land|denort/.test(error.message);
}

/** `--allow-net` and its kind as a binary has them: `{"allow_net":[], …}`. */
export interface Baked {
  readonly permissions: Readonly<Record<string, unknown>>;
  /** Unstable features. */
  readonly features: readonly string[];
}

/**
 * What is written at the end of a binary, beside its sources; undefined where
 * it is written in another way than Deno 2.9 writes it.
 */
export async function bakedInto(binary: string): Promise<Baked | undefined> {
  const bytes = await Deno.readFile(binary);
  // The runtime is before it, and says nothing about us.
  const text = new TextDecoder("latin1").decode(bytes);
  const at = text.lastIndexOf('"permissions":{"allow_env"');
  const permissions = /^"permissions":(\{[^{}]*\})/.exec(
    text.slice(at, at + 4_000),
  )?.[1];
  const features = /"features":(\[[^\]]*\])/.exec(
    text.slice(at, at + 100_000),
  )?.[1];
  if (at === -1 || permissions === undefined || features === undefined) {
    return undefined;
  }
  return {
    permissions: JSON.parse(permissions),
    features: JSON.parse(features),
  };
}

async function deno(
  args: readonly string[],
  env: Record<string, string> = {},
): Promise<void> {
  const { code, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { NO_COLOR: "1", DENO_NO_UPDATE_CHECK: "1", ...env },
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).output();
  if (code === 0) return;
  const said = new TextDecoder().decode(stderr).trim();
  throw new BuildError(`Cannot run "deno ${args[0]}": ${said}`);
}
