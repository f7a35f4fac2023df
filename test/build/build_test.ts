/**
 * The program in the forms in which it is installed: one file of JavaScript,
 * and one binary.
 */
import { checkEmbedding } from "./check_embedding.ts";
import { checkProgram } from "./check_program.ts";
import { bundle, compile, programFlags } from "./program.ts";
import { type Need, testWith } from "../support/needs.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

/** Named by DENORT_BIN, or fetched by an earlier `deno task compile`. */
const denort: Need = () => {
  if (Deno.env.get("DENORT_BIN") !== undefined) return undefined;
  const { stdout } = new Deno.Command(Deno.execPath(), {
    args: ["info", "--json"],
  }).outputSync();
  const { denoDir } = JSON.parse(new TextDecoder().decode(stdout));
  const folder = `${denoDir}/dl/release/v${Deno.version.deno}`;
  try {
    const names = [...Deno.readDirSync(folder)].map(({ name }) => name);
    if (names.some((name) => name.startsWith("denort"))) return undefined;
  } catch {
    // Nothing was ever fetched.
  }
  return "no denort: neither DENORT_BIN nor one that was fetched";
};

Deno.test("the program as one file: version, demo --once, a connection by splice", async () => {
  await using folder = await temporaryFolder();
  // Where no deno.json is found that would help.
  const path = await bundle(`${folder.path}/kube-portal.js`);
  await checkProgram([Deno.execPath(), "run", ...programFlags(), path]);
});

Deno.test("the binary: sources, permissions and unstable features are embedded", async () => {
  await using folder = await temporaryFolder();
  await checkEmbedding(await bundle(`${folder.path}/kube-portal.js`));
});

testWith(
  [denort],
  "the binary: version, demo --once, a connection by splice",
  async () => {
    await using folder = await temporaryFolder();
    const path = await bundle(`${folder.path}/kube-portal.js`);
    await compile(path, `${folder.path}/kube-portal`);
    await checkProgram([`${folder.path}/kube-portal`]);
  },
);
