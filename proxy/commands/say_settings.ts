/**
 * What there is to say about settings before the proxy starts: what was passed
 * over, what does nothing here; and `--write-config-to`.
 *
 * @module
 */
import { getLogger } from "@std/log";
import {
  configurationYaml,
  fieldsWithoutMeaning,
  type KubeProxyConfiguration,
} from "../config/mod.ts";
import { errorLine, UserError } from "./errors.ts";
import type { Settings } from "./settings.ts";
import { print } from "./terminal.ts";

const logger = getLogger("main");

/** At this verbosity settings that do nothing are worth a line. */
const SAY_IGNORED_FROM = 1;

/** One line for each kind of thing, and none where there is nothing. */
export function saySettings(settings: Settings): void {
  const { config, file, overruled, deprecated, silent, lenient } = settings;
  if (lenient.length > 0) {
    logger.warn("Passed over parts of the configuration file", {
      file: file?.path,
      parts: lenient,
    });
  }
  if (overruled.length > 0) {
    logger.warn("Flags do not count beside --config; set them in the file", {
      file: file?.path,
      flags: overruled,
    });
  }
  if (deprecated.length > 0) {
    logger.warn("Flags are deprecated", { flags: deprecated });
  }
  const ignored = [...fieldsWithoutMeaning(config), ...silent];
  if (ignored.length > 0 && config.logging.verbosity >= SAY_IGNORED_FROM) {
    logger.info(`Settings do nothing in ${config.mode} mode`, {
      settings: ignored,
    });
  }
}

/** These paths are standard output, which needs no permission to write. */
const STANDARD_OUTPUT: readonly string[] = ["-", "/dev/stdout"];

/**
 * Writes the effective configuration (fact 8.92).
 *
 * @throws {UserError} if the file cannot be written
 */
export async function writeConfiguration(
  path: string,
  config: KubeProxyConfiguration,
): Promise<void> {
  const yaml = configurationYaml(config);
  if (STANDARD_OUTPUT.includes(path)) return print(yaml);
  try {
    await Deno.writeTextFile(path, yaml);
  } catch (error) {
    const why = error instanceof Deno.errors.NotCapable
      ? `Deno denies it; add --allow-write=${path}, or write to "-", which is standard output`
      : errorLine(error);
    throw new UserError(`Cannot write "${path}" of --write-config-to: ${why}`);
  }
}
