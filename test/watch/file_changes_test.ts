import assert from "node:assert/strict";
import { fileChanges, systemClock } from "../../watch/mod.ts";
import { MountedConfigMap } from "../support/config_map.ts";
import { collectLog } from "../support/log_lines.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

Deno.test("fileChanges() yields what the kubelet puts in a file's place, and nothing twice", async () => {
  await using folder = await temporaryFolder();
  const configMap = new MountedConfigMap(folder.path);
  await configMap.put({ "config.conf": "one" });
  const stop = new AbortController();
  const changes = fileChanges(`${folder.path}/config.conf`, {
    clock: systemClock,
    known: "one",
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(20_000)]),
  });
  const next = changes.next();
  await configMap.put({ "config.conf": "one" });
  await configMap.put({ "config.conf": "two" });
  assert.equal((await next).value, "two");
  await configMap.put({ "config.conf": "three" });
  assert.equal((await changes.next()).value, "three");
  const last = changes.next();
  stop.abort();
  assert.equal((await last).done, true);
});

Deno.test("fileChanges() says once that a file is gone, and goes on when it is back", async () => {
  await using folder = await temporaryFolder();
  await using log = await collectLog("info");
  const path = await folder.write("config", "one");
  const stop = new AbortController();
  const changes = fileChanges(path, {
    clock: systemClock,
    known: "one",
    signal: AbortSignal.any([stop.signal, AbortSignal.timeout(20_000)]),
  });
  await Deno.remove(path);
  const next = changes.next();
  while (log.lines.length === 0) {
    await systemClock.delay(5, AbortSignal.timeout(20_000));
  }
  await folder.write("config", "two");
  assert.equal((await next).value, "two");
  stop.abort();
  await changes.next();
  assert.match(log.lines[0] ?? "", /WARN .*Cannot read file again/);
  assert.match(log.lines[1] ?? "", /INFO .*File can be read again/);
});
