/**
 * `kube-portal [run]`: the proxy. Reads flags and the configuration, does what
 * is done without a proxy, and else runs one (`run_proxy.ts`).
 *
 * @module
 */
import { EventFeed } from "../status/event_feed.ts";
import { cleanupCommand } from "./cleanup.ts";
import { logFlagsOf } from "./config_meaning.ts";
import { RUN_FLAGS } from "./flag_tables.ts";
import { parseGivenFlags } from "./flags.ts";
import { runProxy } from "./run_proxy.ts";
import { saySettings, writeConfiguration } from "./say_settings.ts";
import { loadSettings } from "./settings.ts";
import { setupLogging } from "./verbosity.ts";
import { printVersion } from "./version.ts";

export async function runCommand(args: readonly string[]): Promise<number> {
  const given = parseGivenFlags(args, RUN_FLAGS);
  const flags = given.values;
  if (flags.version) return printVersion();
  const settings = await loadSettings(given);
  const { config } = settings;
  const configPath = flags["write-config-to"];
  if (configPath) {
    await writeConfiguration(configPath, config);
    return 0;
  }
  const logFlags = logFlagsOf(config);
  const feed = new EventFeed();
  await setupLogging(logFlags, { tap: (entry) => feed.add(entry) });
  if (flags.cleanup) {
    saySettings(settings);
    return await cleanupCommand([
      `-v=${logFlags.v}`,
      `--logging-format=${logFlags["logging-format"]}`,
    ]);
  }
  // Nothing here needs more privileges at the start than later (fact 8.99).
  if (flags["init-only"]) {
    saySettings(settings);
    return 0;
  }
  return await runProxy({ given, settings, feed });
}
