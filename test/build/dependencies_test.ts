/**
 * What comes from others: pinned, checked by its hash, from one registry, and
 * with no hole that is known.
 */
import assert from "node:assert/strict";
import { type Need, testWith } from "../support/needs.ts";

const ROOT = new URL("../../", import.meta.url);

interface Config {
  readonly imports: Readonly<Record<string, string>>;
  readonly lock: { readonly frozen?: boolean };
}

interface Lock {
  readonly npm: Readonly<Record<string, { readonly integrity?: string }>>;
}

function readJson<T>(name: string): T {
  return JSON.parse(Deno.readTextFileSync(new URL(name, ROOT))) as T;
}

Deno.test("every dependency is from npm at one exact version, and the lock file is frozen", () => {
  const { imports, lock } = readJson<Config>("deno.json");
  const loose = Object.values(imports).filter((specifier) =>
    !specifier.startsWith("./") &&
    !/^npm:(@[^@/]+\/)?[^@/]+@\d+\.\d+\.\d+$/.test(specifier)
  );
  assert.deepEqual(loose, []);
  assert.equal(lock.frozen, true);
});

Deno.test("the lock file knows the hash of every package, and no other source", () => {
  const lock = readJson<Lock>("deno.lock");
  const unchecked = Object.entries(lock.npm)
    .filter(([, { integrity }]) => !integrity?.startsWith("sha512-"))
    .map(([name]) => name);
  assert.deepEqual(unchecked, []);
  assert.ok(!("jsr" in lock) && !("remote" in lock));
});

function audit(): { success: boolean; output: string } {
  const { success, stdout, stderr } = new Deno.Command(Deno.execPath(), {
    args: ["audit"],
    cwd: ROOT,
    env: { NO_COLOR: "1" },
  }).outputSync();
  const decoder = new TextDecoder();
  return { success, output: decoder.decode(stdout) + decoder.decode(stderr) };
}

const audited = audit();

/** Many mirrors of npm serve packages and answer no questions. */
const registryAudits: Need = () =>
  /error sending request|40[0-9]|50[0-9]/.test(audited.output) &&
    !audited.success
    ? "the npm registry cannot be asked for advisories"
    : undefined;

testWith(
  [registryAudits],
  "the npm registry knows of no hole in a dependency",
  () => assert.ok(audited.success, audited.output),
);
