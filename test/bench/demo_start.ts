/**
 * How long the demo takes from its command to the table of Services, packages
 * being cached. Ports 8001 and 10256 are left to a demo that may be running, but
 * its addresses are needed.
 *
 *     deno run -A test/bench/demo_start.ts --samples 20
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { percentiles } from "../support/percentiles.ts";

async function sample(): Promise<number> {
  const startedAt = performance.now();
  await using demo = startKubePortal([
    "--apiserver-port=0",
    "--healthz-bind-address=127.0.0.1:0",
    "--metrics-bind-address=127.0.0.1:0",
  ], { task: "demo" });
  await demo.waitFor("Ctrl-C ends it.");
  return performance.now() - startedAt;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { samples: { type: "string", default: "20" } },
  });
  const results: number[] = [];
  for (let n = 0; n < Number(values.samples); n++) results.push(await sample());
  print(table(["FROM THE COMMAND UNTIL", "P50", "P99", "MAX"], [
    ["the demo is ready", ...percentiles(results)],
  ]));
}

if (import.meta.main) await main();
