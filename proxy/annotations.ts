/**
 * The annotations on a Service that are ours: how its connections are
 * forwarded, beyond what Kubernetes has fields for. Pure: text in, options and
 * what is wrong with the text out. A value that cannot be read counts as not
 * given, since a Service that works otherwise must not stop for it.
 *
 * @module
 */
import { goDurationMs } from "./duration.ts";

/** What the annotations decide, as an engine takes it. */
export interface ForwardingOptions {
  readonly balancer: "round-robin" | "least-connections";
  /** A TCP connection older than this is ended; 0: never. */
  readonly maxConnectionAgeMs: number;
  readonly proxyProtocol: "none" | "v1" | "v2";
}

export const DEFAULT_FORWARDING: ForwardingOptions = {
  balancer: "round-robin",
  maxConnectionAgeMs: 0,
  proxyProtocol: "none",
};

const PREFIX = "kube-portal.dev/";

/** Longest maximum age, in hours: timers take no more than 2^31 - 1 ms. */
const LONGEST_AGE_HOURS = 500;

interface Annotation {
  /** What it allows, for people. */
  readonly want: string;
  /** `undefined`: not allowed. */
  read(text: string): Partial<ForwardingOptions> | undefined;
}

const ANNOTATIONS: Readonly<Record<string, Annotation>> = {
  balancer: {
    want: '"round-robin" or "least-connections"',
    read: (text) =>
      text === "round-robin" || text === "least-connections"
        ? { balancer: text }
        : undefined,
  },
  "max-connection-age": {
    want:
      `a duration such as "30m", or "0" for no limit, and at most ${LONGEST_AGE_HOURS}h`,
    read(text) {
      const ms = goDurationMs(text);
      return ms === undefined || ms > LONGEST_AGE_HOURS * 3_600_000
        ? undefined
        : { maxConnectionAgeMs: ms };
    },
  },
  "proxy-protocol": {
    want: '"v1" or "v2"',
    read: (text) =>
      text === "v1" || text === "v2" ? { proxyProtocol: text } : undefined,
  },
};

/**
 * Reads a Service's annotations.
 *
 * @returns the options, and one sentence for each annotation of ours that
 *   cannot be read
 */
export function forwardingOptions(
  annotations: Readonly<Record<string, string>>,
): { options: ForwardingOptions; problems: string[] } {
  let options = DEFAULT_FORWARDING;
  const problems: string[] = [];
  for (const [name, value] of Object.entries(annotations)) {
    if (!name.startsWith(PREFIX)) continue;
    const annotation = Object.hasOwn(ANNOTATIONS, name.slice(PREFIX.length))
      ? ANNOTATIONS[name.slice(PREFIX.length)]
      : undefined;
    const read = annotation?.read(value.trim());
    if (annotation === undefined) {
      problems.push(`Annotation "${name}" means nothing: known are ${KNOWN}`);
    } else if (read === undefined) {
      problems.push(
        `Annotation "${name}" is ignored: "${value}" is not ${annotation.want}`,
      );
    } else options = { ...options, ...read };
  }
  return { options, problems: problems.sort() };
}

const KNOWN = Object.keys(ANNOTATIONS).map((name) => `"${PREFIX}${name}"`)
  .join(", ");
