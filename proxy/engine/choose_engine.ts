/**
 * Which engine moves the bytes. In: what was asked for. Out: an engine, and why
 * it is this one. The only place that knows both.
 *
 * @module
 */
import type { Clock } from "../../watch/clock.ts";
import type { PortSharing } from "../port_sharing.ts";
import { DescriptorShare } from "./descriptor_share.ts";
import type { Engine, NamespaceOpener } from "./engine.ts";
import type { ListeningSockets } from "./listening_sockets.ts";
import { createPortableEngine } from "./portable/engine.ts";
import {
  createSpliceEngine,
  type SpliceEngine,
  type SpliceEngineOptions,
  WORKERS,
} from "./splice/engine.ts";

/** `auto`: `splice` where it can run, else `portable`. */
export type EngineRequest = "auto" | "portable" | "splice";

export interface ChooseEngineOptions {
  readonly clock: Clock;
  /** Threads of `splice`; `portable` has none. */
  readonly workers?: number;
  readonly udpTimeoutMs?: number;
  /** Descriptors of the process; `portable` cannot ask for itself. */
  readonly descriptorLimit?: () => Promise<number | undefined>;
  /** Without it, nothing can listen in another network namespace. */
  readonly namespaces?: NamespaceOpener;
  /** Where listeners of `splice` come from, if not from itself. */
  readonly sockets?: ListeningSockets | undefined;
  /** `portable` may listen beside another process that it replaces. */
  readonly portSharing?: PortSharing | undefined;
}

/** An engine, which is to be disposed of at the end. */
export interface EngineChoice {
  readonly engine: Engine & AsyncDisposable;
  /** A sentence for the log. */
  readonly why: string;
  /**
   * Never resolves.
   *
   * @throws when the engine can no longer work; the program should end then
   */
  readonly failed: Promise<never>;
}

/**
 * Makes an engine that runs.
 *
 * @throws what keeps `splice` from running, if that was asked for
 */
export async function chooseEngine(
  request: EngineRequest,
  options: ChooseEngineOptions,
): Promise<EngineChoice> {
  const share = new DescriptorShare();
  const portable = createPortableEngine({ ...options, share });
  const choosePortable = async (why: string): Promise<EngineChoice> => {
    share.limit = await options.descriptorLimit?.() ?? Infinity;
    return {
      engine: { ...portable, async [Symbol.asyncDispose]() {} },
      why,
      failed: new Promise<never>(() => {}),
    };
  };
  if (request === "portable") return await choosePortable("it was asked for");
  try {
    const { workers = WORKERS } = options;
    const splice = await runningSplice({ ...options, workers });
    const threads = workers === 1 ? "a thread" : `${workers} threads`;
    const why = `it has ${threads} of its own`;
    return { engine: splice, why, failed: splice.failed };
  } catch (error) {
    if (!(error instanceof Error)) throw error;
    if (request === "splice") {
      throw new Error(`Cannot use the splice engine: ${error.message}`, {
        cause: error.cause,
      });
    }
    return await choosePortable(`splice cannot run: ${error.message}`);
  }
}

/** @throws what keeps it from running; then nothing of it is left */
async function runningSplice(
  options: SpliceEngineOptions,
): Promise<SpliceEngine> {
  const splice = createSpliceEngine(options);
  try {
    await splice.ready;
    return splice;
  } catch (error) {
    // Threads that did start would keep the program from ending.
    await splice[Symbol.asyncDispose]();
    throw error;
  }
}
