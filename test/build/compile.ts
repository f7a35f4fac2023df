/**
 * `deno task compile`: the program as one binary, and whether that works. Where
 * Deno's runtime for binaries cannot be had, everything up to it is made and
 * looked at, and the exit code is 1.
 *
 * @module
 */
import { print, printError } from "../../proxy/commands/terminal.ts";
import { checkEmbedding } from "./check_embedding.ts";
import { checkProgram } from "./check_program.ts";
import {
  BINARY,
  bundle,
  compile,
  lacksRuntime,
  programFlags,
} from "./program.ts";

async function main(): Promise<number> {
  const source = await bundle();
  const output = new URL(`../../${BINARY}`, import.meta.url).pathname;
  try {
    await compile(source, output);
  } catch (error) {
    if (!lacksRuntime(error)) throw error;
    printError(
      "Cannot make the binary: dl.deno.land, which has denort, Deno's runtime for binaries, cannot be reached; name one of this Deno's version with DENORT_BIN, or use deno task bundle\n",
    );
    await checkProgram([Deno.execPath(), "run", ...programFlags(), source]);
    await checkEmbedding(source);
    printError(
      "Verified without it: the program as one file runs, and the sources, the permissions and the unstable features are embedded as they should be\n",
    );
    return 1;
  }
  await checkProgram([output]);
  print(
    `Made ${BINARY}, which runs version, demo --once and the splice engine\n`,
  );
  return 0;
}

Deno.exit(await main());
