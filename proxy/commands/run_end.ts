/**
 * The end of a run, in order: nothing new is accepted, open connections may end,
 * what leads packets here stays or is removed, and the lock is given back last.
 * In: why it ends, and whether another process has taken over.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { systemRunner } from "../rules/command.ts";
import { removeSteering } from "./cleanup.ts";
import { errorLine } from "./errors.ts";
import type { HandOver } from "./hand_over.ts";
import { passQueuesOn } from "./pass_queues_on.ts";
import { drainingText, showProgress } from "./progress.ts";
import type { RunParts } from "./run_parts.ts";
import type { PersistentServer } from "./serve_status.ts";

const logger = getLogger("main");

const CLEANUP_TIMEOUT_MS = 10_000;

export interface RunEnd {
  /** As the rest of a sentence: the name of a signal, mostly. */
  readonly why: string;
  /** Another process has taken over. */
  readonly isGiven: boolean;
  readonly servers: readonly PersistentServer[];
  /** Resolves when the process is told to stop. */
  readonly signalled: Promise<unknown>;
}

export async function endRun(parts: RunParts, end: RunEnd): Promise<void> {
  sayWhy(parts, end.why);
  const { drainMs } = parts.read;
  const cut = AbortSignal.timeout(drainMs);
  const cutAt = performance.now() + drainMs;
  const drained = new AbortController();
  showProgress(
    () => drainingText(parts.proxy(), cutAt - performance.now()),
    { signal: drained.signal },
  );
  if (end.isGiven) await leave(parts, end, { cut, drained });
  else await stop(parts, end, { cut, drained });
  // Until now nobody else could take what is there for leftovers.
  parts.handOver[Symbol.dispose]();
  parts.client?.[Symbol.dispose]();
  logger.info("Stopped");
}

function sayWhy({ read, flags, proxy }: RunParts, why: string): void {
  if (proxy().mode === "userspace") {
    const { drainMs } = read;
    logger.info(`Stopping at ${why}; open connections may end`, { drainMs });
    return;
  }
  const rules = flags["cleanup-on-exit"] ? "are removed" : "stay";
  logger.info(`Stopping at ${why}; the kernel's rules ${rules}`);
}

interface Draining {
  /** Ends the connections that are still open. */
  readonly cut: AbortSignal;
  /** Aborted when there are none. */
  readonly drained: AbortController;
}

/** Everything is another process's now, but for open connections. */
async function leave(
  { proxy, handOver, portSharing, flags }: RunParts,
  { servers, signalled }: RunEnd,
  { cut, drained }: Draining,
): Promise<void> {
  const passing = portSharing.isUsedHere
    ? await passQueuesOn(systemRunner)
    : undefined;
  // Where queues pass on, nobody is lost by closing at once.
  if (passing?.isOn === false) await portSharing.leave();
  const leaving = servers.map((each) => each.leave());
  await proxy().stop(cut, () => handOver.leave());
  // Not before: on a busy machine a socket is gone only some time after its end.
  await passing?.end();
  drained.abort();
  await Promise.all(leaving);
  if (flags["stay-when-replaced"]) await stay(signalled, handOver);
}

async function stop(
  { proxy, flags }: RunParts,
  { servers }: RunEnd,
  { cut, drained }: Draining,
): Promise<void> {
  const stage = await proxy().stop(cut);
  drained.abort();
  for (const each of servers) await each[Symbol.asyncDispose]();
  if (!flags["cleanup-on-exit"]) return;
  const signal = AbortSignal.timeout(CLEANUP_TIMEOUT_MS);
  if (stage === undefined) await removeHalfStarted(signal);
  else await stage.cleanup(signal);
}

/**
 * There is nothing left to do, and a supervisor would start what ends again.
 * Where the one that took over is no more, that is just what is wanted.
 */
async function stay(
  signalled: Promise<unknown>,
  handOver: HandOver,
): Promise<void> {
  logger.info("Replaced; staying until told to stop, or until nobody steers");
  const leaving = new AbortController();
  const alone = handOver.untilNobodySteers(leaving.signal);
  await Promise.race([signalled, alone]);
  leaving.abort();
  await alone;
}

/** Told to stop while steering was put up: what is there has no owner. */
async function removeHalfStarted(signal: AbortSignal): Promise<void> {
  try {
    await removeSteering(signal);
  } catch (error) {
    // Somebody else steers, or there were no rights to begin with.
    logger.warn("Steering is not cleaned up", { reason: errorLine(error) });
  }
}
