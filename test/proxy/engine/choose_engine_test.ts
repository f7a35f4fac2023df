import assert from "node:assert/strict";
import { chooseEngine } from "../../../proxy/engine/choose_engine.ts";
import { systemClock } from "../../../watch/mod.ts";
import { ffi } from "../../support/ffi.ts";
import { testWith } from "../../support/needs.ts";

const clock = systemClock;

Deno.test("chooseEngine() gives what was asked for", async () => {
  const { engine, why } = await chooseEngine("portable", { clock });
  assert.equal(engine.name, "portable");
  assert.equal(why, "it was asked for");
  await engine[Symbol.asyncDispose]();
});

testWith([ffi], "chooseEngine() takes splice where it can run", async () => {
  for (const workers of [1, 2]) {
    const { engine } = await chooseEngine("auto", { clock, workers });
    assert.equal(engine.name, "splice");
    await engine[Symbol.asyncDispose]();
  }
});

Deno.test({
  name: "chooseEngine() falls back without FFI, and says why",
  permissions: { net: true, read: true },
  async fn() {
    const { engine, why } = await chooseEngine("auto", { clock });
    assert.equal(engine.name, "portable");
    assert.match(why, /^splice cannot run: it needs /);
    await engine[Symbol.asyncDispose]();
  },
});

Deno.test({
  name: "chooseEngine() fails without FFI if splice was asked for",
  permissions: { net: true, read: true },
  async fn() {
    await assert.rejects(
      chooseEngine("splice", { clock }),
      /^Error: Cannot use the splice engine: it needs /,
    );
  },
});

// The paths that `deno task start` gives.
const LIBC_PATHS = [
  "/lib/x86_64-linux-gnu/libc.so.6",
  "/lib/aarch64-linux-gnu/libc.so.6",
  "/lib64/libc.so.6",
];

const missing = ffi();
Deno.test({
  name: "splice runs with a permission for the C library alone" +
    (missing === undefined ? "" : ` [skipped: ${missing}]`),
  ignore: missing !== undefined,
  permissions: { net: true, read: true, ffi: LIBC_PATHS },
  async fn() {
    const { engine } = await chooseEngine("splice", { clock });
    assert.equal(engine.name, "splice");
    await engine[Symbol.asyncDispose]();
  },
});
