/**
 * `deno task bundle`: the program as one file of JavaScript, and whether that
 * works.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";
import { checkProgram } from "./check_program.ts";
import { BUNDLE, bundle, programFlags } from "./program.ts";

const path = await bundle();
await checkProgram([Deno.execPath(), "run", ...programFlags(), path]);
print(
  `Made ${BUNDLE}, which runs version, demo --once and the splice engine:\n\n` +
    `  deno run ${programFlags().join(" ")} ${BUNDLE} --help\n`,
);
