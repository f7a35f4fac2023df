/**
 * Whether endpoints can be reached from this machine: a few are dialled. One
 * that refuses is reached too; only silence and "no route" tell that the pod
 * network does not come this far.
 *
 * @module
 */
import type { Finding } from "./doctor_finding.ts";
import { formatHostPort } from "../ip.ts";

export interface DialTarget {
  readonly ip: string;
  readonly port: number;
}

const TARGETS_MAX = 5;
const DIAL_TIMEOUT_MS = 2_000;

/** Dials a few of them at once. */
export async function dialFinding(
  targets: readonly DialTarget[],
  signal: AbortSignal,
): Promise<Finding> {
  const check = "endpoints";
  // From everywhere in the list, since neighbours are of one namespace.
  const step = Math.max(1, Math.floor(targets.length / TARGETS_MAX));
  const tried = targets.filter((_, index) => index % step === 0)
    .slice(0, TARGETS_MAX);
  if (tried.length === 0) {
    return { check, level: "ok", found: "none is ready, so none was tried" };
  }
  const reached = await Promise.all(
    tried.map((target) => isReached(target, signal)),
  );
  const lost = tried.filter((_, index) => !reached[index])
    .map(({ ip, port }) => formatHostPort(ip, port));
  if (lost.length === 0) {
    return {
      check,
      level: "ok",
      found: `${tried.length} of ${targets.length} tried, all can be reached`,
    };
  }
  const isAll = lost.length === tried.length;
  return {
    check,
    level: isAll ? "fail" : "warn",
    found:
      `${lost.length} of ${tried.length} tried cannot be reached: ${
        lost.join(", ")
      }` + (isAll ? "; the pod network is not routed to this machine" : ""),
    advice: isAll
      ? "run it on a node, or add a route to the pod CIDRs by way of one"
      : "look at these pods, and at the routes to their nodes",
  };
}

async function isReached(
  { ip, port }: DialTarget,
  signal: AbortSignal,
): Promise<boolean> {
  try {
    const connection = await Deno.connect({
      hostname: ip,
      port,
      signal: AbortSignal.any([signal, AbortSignal.timeout(DIAL_TIMEOUT_MS)]),
    });
    connection.close();
    return true;
  } catch (error) {
    return error instanceof Deno.errors.ConnectionRefused ||
      error instanceof Deno.errors.ConnectionReset;
  }
}
