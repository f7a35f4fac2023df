/**
 * Who answers, and whom they see: one question to a Service, asked often enough
 * that chance shows every endpoint there is. Endpoints are those of
 * `endpoint.ts`.
 *
 * @module
 */
import type { Namespace } from "./netns.ts";

export interface Question {
  readonly protocol: "tcp" | "udp";
  readonly ip: string;
  readonly port: number;
  /** `refused`, `timeout`, or what endpoints say: it decides how to ask. */
  readonly want: ReadonlySet<string>;
}

/** One endpoint of two is missed once in 2^19 times. */
const TIMES = 20;
/** Waiting for nothing. */
const TIMEOUT_MS = 1_500;

/**
 * Asks all of them at once.
 *
 * @returns for each question `refused`, `timeout` or `NAME saw IP`
 */
export async function answers(
  client: Namespace,
  questions: readonly Question[],
): Promise<ReadonlySet<string>[]> {
  const dials = questions.map(dialsOf);
  // One before the others, since they may depend on it.
  await client.dialAll(
    dials.filter(({ length }) => length > 1)
      .flatMap(([first]) => first ?? []),
  );
  const replies = await client.dialAll(dials.flat());
  return dials.map((each) => new Set(replies.splice(0, each.length).map(seen)));
}

function dialsOf({ protocol, ip, port, want }: Question) {
  const isSilent = want.has("timeout");
  // The kernel limits how many ICMPs it sends, and they are how it refuses.
  const times = isSilent || want.has("refused") ? 1 : TIMES;
  const timeout = isSilent ? { timeoutMs: TIMEOUT_MS } : {};
  const dial = { protocol, ip, port, text: "x", ...timeout };
  return Array.from({ length: times }, () => dial);
}

function seen(reply: string): string {
  if (reply === "error: Timeout") return "timeout";
  if (reply.startsWith("error:") || reply === "") return "refused";
  const [name = "", whom = ""] = reply.split(/\s/);
  return `${name} saw ${whom.replace(/:\d+$/, "").replaceAll(/[[\]]/g, "")}`;
}
