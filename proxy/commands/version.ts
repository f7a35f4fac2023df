/**
 * `kube-portal version`, and the one place that knows the version.
 *
 * @module
 */
import manifest from "../../deno.json" with { type: "json" };
import { parseFlags } from "./flags.ts";
import { print } from "./terminal.ts";

export const VERSION: string = manifest.version;

/** @throws {UserError} it takes no flags */
export function versionCommand(args: readonly string[]): number {
  parseFlags(args, {});
  return printVersion();
}

/** As kube-proxy's `--version` writes it: the name, a space, the version. */
export function printVersion(): number {
  print(
    `kube-portal v${VERSION} (deno ${Deno.version.deno}, ${Deno.build.os}/${Deno.build.arch})\n`,
  );
  return 0;
}
