/**
 * What the proxy is told: kube-proxy's flags, or its `--config` file with the
 * few flags that count beside it, made one validated configuration. In: parsed
 * flags and the file's text. Out: `Settings`, or every mistake in one error.
 *
 * @module
 */
import { fileReason } from "../../watch/mod.ts";
import {
  addressFromDeprecatedFlag,
  appendPortIfNeeded,
  ConfigurationError,
  defaultConfiguration,
  fieldAt,
  fieldOfText,
  HEALTHZ_PORT,
  invalidConfiguration,
  type KubeProxyConfiguration,
  METRICS_PORT,
  parseConfiguration,
  PROXY_MODE,
  validate,
  withValue,
} from "../config/mod.ts";
import { UserError } from "./errors.ts";
import type { FlagSpecs, FlagValues } from "./flags.ts";
import { wholeNumber } from "./flags.ts";
import { KUBE_PROXY_FLAGS } from "./kube_proxy_flags.ts";
import type { LOG_FLAGS } from "./verbosity.ts";

/** kube-proxy's flags, or the part of them that a command has. */
export interface SettingsFlags {
  readonly values:
    & Partial<FlagValues<typeof KUBE_PROXY_FLAGS>>
    & FlagValues<typeof LOG_FLAGS>;
  readonly given: ReadonlySet<string>;
}

export interface Settings {
  readonly config: KubeProxyConfiguration;
  /** The file, as it was read; missing where flags alone count. */
  readonly file?: { readonly path: string; readonly text: string };
  /** Who says which mode it is: a file, a flag, or nobody. */
  readonly modeFrom: string;
  /** Flags that `--config` makes ineffective, and were given: `--bind-address`. */
  readonly overruled: readonly string[];
  /** Deprecated flags that were given, each with what to use instead. */
  readonly deprecated: readonly string[];
  /** Flags without a field, and without an effect, that were given. */
  readonly silent: readonly string[];
  /** What a strict reader of the file would refuse. */
  readonly lenient: readonly string[];
}

/**
 * Reads the `--config` file, if there is one, and makes `Settings`.
 *
 * @throws {UserError | ConfigurationError} for what the user can mend
 */
export async function loadSettings(flags: SettingsFlags): Promise<Settings> {
  const path = flags.values.config;
  if (!path) return settingsOf(flags);
  let text;
  try {
    text = await Deno.readTextFile(path);
  } catch (error) {
    throw new UserError(
      `Cannot read "${path}", the file of --config: ${fileReason(error)}`,
    );
  }
  return settingsOf(flags, { path, text });
}

/**
 * Without input or output: for a file that has changed, too.
 *
 * @throws {UserError | ConfigurationError}
 */
export function settingsOf(
  flags: SettingsFlags,
  file?: { readonly path: string; readonly text: string },
): Settings {
  return file === undefined
    ? settingsOfFlags(flags)
    : settingsOfFile(flags, file);
}

/** Facts 8.8, 8.89, 8.91: these flags count beside a file. */
const FLAGS_BESIDE_FILE: ReadonlySet<string> = new Set([
  "hostname-override",
  "log-flush-frequency",
]);

function settingsOfFile(
  flags: SettingsFlags,
  { path, text }: { path: string; text: string },
): Settings {
  let parsed;
  try {
    parsed = parseConfiguration(text);
  } catch (error) {
    if (!(error instanceof ConfigurationError)) throw error;
    throw new ConfigurationError(
      `Cannot read "${path}", the file of --config: ${error.message}`,
      { cause: error },
    );
  }
  const counting = [...flags.given].filter((name) =>
    FLAGS_BESIDE_FILE.has(name)
  );
  const config = withFlags(parsed.config, flags, counting);
  const problems = [...parsed.problems, ...validate(config)];
  if (problems.length > 0) {
    throw invalidConfiguration(problems, { source: `"${path}"` });
  }
  return {
    config: withLogFlags(config, flags),
    file: { path, text },
    modeFrom: config.mode === "" ? `${path}, which leaves it blank` : path,
    overruled: [...flags.given].filter((name) =>
      isOverruled(name) && !FLAGS_BESIDE_FILE.has(name)
    ).map((name) => `--${name}`),
    deprecated: [],
    silent: silentFlags(flags),
    lenient: parsed.lenient,
  };
}

/** kube-proxy's flags for which the file has a field. */
function isOverruled(name: string): boolean {
  const spec = (KUBE_PROXY_FLAGS as FlagSpecs)[name];
  return spec?.field !== undefined || spec?.deprecated !== undefined;
}

function settingsOfFlags(flags: SettingsFlags): Settings {
  const given = [...flags.given].filter((name) => fieldOf(name) !== undefined);
  const config = withSharedFlags(
    withPorts(withFlags(defaultConfiguration(), flags, given), flags),
  );
  const problems = validate(config);
  if (problems.length > 0) {
    throw new UserError(
      problems.map(({ field, value, text }) =>
        `Invalid value ${shown(value)} for ${flagOf(field, flags)}: ${text}`
      ).join("; "),
    );
  }
  return {
    config: withLogFlags(config, flags),
    modeFrom: config.mode === "" ? "default" : "--proxy-mode",
    overruled: [],
    deprecated: [...flags.given].flatMap((name) => {
      const instead = (KUBE_PROXY_FLAGS as FlagSpecs)[name]?.deprecated;
      return instead === undefined ? [] : [`--${name}: use ${instead}`];
    }),
    silent: silentFlags(flags),
    lenient: [],
  };
}

/** Those with a field are told by its value. */
function silentFlags({ given }: SettingsFlags): string[] {
  return [...given].filter((name) => {
    const spec = (KUBE_PROXY_FLAGS as FlagSpecs)[name];
    return spec?.silent && spec.field === undefined;
  }).map((name) => `--${name}`);
}

function fieldOf(flag: string): string | undefined {
  return (KUBE_PROXY_FLAGS as FlagSpecs)[flag]?.field;
}

/**
 * The flag that sets a field: where it was a deprecated one, that.
 */
function flagOf(field: string, flags: SettingsFlags): string {
  const path = field.replace(/\[\d+\]$/, "");
  const [name = path] = Object.keys(KUBE_PROXY_FLAGS)
    .filter((flag) => fieldOf(flag) === path);
  const old = name.replace("-bind-address", "-port");
  return `--${!flags.given.has(name) && flags.given.has(old) ? old : name}`;
}

function shown(value: unknown): string {
  return typeof value === "string" ? `"${value}"` : `"${String(value)}"`;
}

/** @throws {UserError} naming every flag whose text is of the wrong kind */
function withFlags(
  config: KubeProxyConfiguration,
  flags: SettingsFlags,
  names: readonly string[],
): KubeProxyConfiguration {
  const values = flags.values as Readonly<Record<string, unknown>>;
  const mistakes: string[] = [];
  for (const name of names) {
    const field = fieldOf(name);
    if (field === undefined) continue;
    const text = String(values[name]);
    const result = fieldOfText(fieldAt(field), text);
    if ("want" in result) {
      mistakes.push(
        `Invalid value "${text}" for --${name}: ${result.want}`,
      );
    } else config = withValue(config, field, result.value);
  }
  // Blanks alone are a variable that somebody forgot to set (fact 8.82).
  if (/^\s+$/.test(flags.values["hostname-override"] ?? "")) {
    mistakes.push(
      'Invalid value " " for --hostname-override: empty hostname-override is invalid',
    );
  }
  if (mistakes.length > 0) throw new UserError(mistakes.join("; "));
  return config;
}

/** nftables mode has no flags of its own but takes these (fact 8.90). */
function withSharedFlags(config: KubeProxyConfiguration) {
  if (config.mode !== "nftables") return config;
  const { syncPeriod, minSyncPeriod, masqueradeAll } = config.iptables;
  const nftables = {
    ...config.nftables,
    syncPeriod,
    minSyncPeriod,
    masqueradeAll,
  };
  return { ...config, nftables };
}

/** Facts 8.46, 8.88. */
function withPorts(
  config: KubeProxyConfiguration,
  { values, given }: SettingsFlags,
): KubeProxyConfiguration {
  const port = (flag: "healthz-port" | "metrics-port", standard: number) =>
    given.has(flag)
      ? wholeNumber(values[flag] ?? "", { flag, min: 0, max: 65_535 })
      : standard;
  // Told apart by who gave it: a default has its port already, which would win
  // over the flag's.
  const address = (
    text: string,
    [bind, old, standard]: readonly [
      "healthz-bind-address" | "metrics-bind-address",
      "healthz-port" | "metrics-port",
      number,
    ],
  ) => {
    if (!given.has(old)) return appendPortIfNeeded(text, standard);
    const ip = given.has(bind) ? text : text.replace(/:\d+$/, "");
    return addressFromDeprecatedFlag(ip, port(old, standard));
  };
  return {
    ...config,
    healthzBindAddress: address(config.healthzBindAddress, [
      "healthz-bind-address",
      "healthz-port",
      HEALTHZ_PORT,
    ]),
    metricsBindAddress: address(config.metricsBindAddress, [
      "metrics-bind-address",
      "metrics-port",
      METRICS_PORT,
    ]),
  };
}

/** A flag about logs wins over the file if it was given (fact 8.89). */
function withLogFlags(
  config: KubeProxyConfiguration,
  { values, given }: SettingsFlags,
): KubeProxyConfiguration {
  const verbosity = given.has("v")
    ? wholeNumber(values.v, { flag: "v", min: 0, max: MAX_VERBOSITY })
    : Math.min(config.logging.verbosity, MAX_VERBOSITY);
  const format = given.has("logging-format")
    ? values["logging-format"]
    : config.logging.format;
  const mode = config.mode || PROXY_MODE;
  return { ...config, mode, logging: { ...config.logging, verbosity, format } };
}

const MAX_VERBOSITY = 10;
