/**
 * A `--config` file that changes while the proxy runs. kube-proxy exits then,
 * and is started again (fact 8.95); here that would end every open connection.
 * So what can be changed at once is, and the rest is named and waits for the
 * next start. Which field is which: `proxy/config/meaning.ts`.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type Clock, fileChanges } from "../../watch/mod.ts";
import {
  configurationChange,
  type KubeProxyConfiguration,
  withAppliedChanges,
} from "../config/mod.ts";
import { type Settings, type SettingsFlags, settingsOf } from "./settings.ts";

const logger = getLogger("main");

export interface ConfigChangesOptions {
  readonly flags: SettingsFlags;
  /** As they were read at the start; of a file. */
  readonly settings: Settings;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** Makes those changes so that can be made at once. */
  readonly apply: (config: KubeProxyConfiguration) => void | Promise<void>;
}

/**
 * Follows the file until the signal. A content that is wrong changes nothing,
 * and is named once.
 */
export async function followConfigChanges(
  { flags, settings, clock, signal, apply }: ConfigChangesOptions,
): Promise<void> {
  const { file } = settings;
  if (file === undefined) return;
  let current = settings.config;
  const changes = fileChanges(file.path, { clock, known: file.text, signal });
  for await (const text of changes) {
    let next;
    try {
      next = settingsOf(flags, { path: file.path, text });
    } catch (cause) {
      logger.error(
        "Cannot use the changed configuration file; the settings stay",
        { file: file.path, cause },
      );
      continue;
    }
    const { applied, pending } = configurationChange(current, next.config);
    if (applied.length > 0) {
      current = withAppliedChanges(current, next.config);
      await apply(current);
      logger.info("Applied changes of the configuration file", {
        file: file.path,
        settings: applied,
      });
    }
    if (pending.length > 0) {
      logger.warn(
        "Changes of the configuration file wait for a restart",
        { file: file.path, settings: pending },
      );
    }
  }
}
