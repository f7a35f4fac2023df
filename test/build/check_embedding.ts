/**
 * What can be known of a binary without a runtime to run it: Deno itself takes
 * the runtime's place, then everything is embedded as it will be, and the file
 * that comes of it is read instead of run.
 *
 * @module
 */
import assert from "node:assert/strict";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { bakedInto, compile, programFlags } from "./program.ts";

/** @throws {assert.AssertionError} naming what is not embedded */
export async function checkEmbedding(source: string): Promise<void> {
  await using folder = await temporaryFolder();
  const binary = `${folder.path}/kube-portal`;
  await compile(source, binary, Deno.execPath());
  const baked = await bakedInto(binary);
  assert.ok(baked !== undefined, "nothing is embedded that can be read");
  const { permissions, features } = baked;
  const granted = Object.entries(permissions)
    .filter(([name, value]) => name.startsWith("allow_") && value !== null)
    .filter(([name]) => name !== "allow_import")
    .map(([name, value]) => {
      const names = (value as string[]).join(",");
      const flag = `--${name.replace("_", "-")}`;
      return names === "" ? flag : `${flag}=${names}`;
    });
  const flags = programFlags();
  assert.deepEqual(
    granted.sort(),
    flags.filter((flag) => flag.startsWith("--allow-")).sort(),
  );
  assert.equal(permissions["prompt"], false);
  assert.deepEqual(
    features.map((name) => `--unstable-${name}`),
    flags.filter((flag) => flag.startsWith("--unstable-")),
  );
  const text = await Deno.readTextFile(source);
  const embedded = new TextDecoder().decode(await Deno.readFile(binary));
  assert.ok(embedded.includes(text.slice(0, 2_000)), "the program is embedded");
}
