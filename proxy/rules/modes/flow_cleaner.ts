/**
 * Has the kernel forget UDP flows that lead where nobody serves any more, for one
 * IP family, after each write of the rules (facts 10.48–10.53). In: which
 * Services were written. What could not be looked at is kept, and looked at
 * again: a flow that is not forgotten goes on for as long as its client does.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { DesiredState, ServicePortState } from "../../desired_state.ts";
import type { IpFamily } from "../../ip.ts";
import { type CommandRunner, isProgramMissing } from "../command.ts";
import { forgetStaleFlows, type UdpTarget, udpTarget } from "./stale_flows.ts";

const logger = getLogger("rules");

/** Services that are tried again; where it never works, they would grow. */
const WAITING_MAX = 10_000;

export interface FlowCleanerOptions {
  readonly family: IpFamily;
  /** The live map of the state tracker. */
  readonly state: DesiredState;
  readonly runner: CommandRunner;
}

export class FlowCleaner {
  readonly #options: FlowCleanerOptions;
  /** Services whose flows have not been looked at since they were written. */
  readonly #waiting = new Set<string>();
  /**
   * By Service, what its flows may have been led by since they were last looked
   * at: the same addresses once, however often they were written.
   */
  readonly #ledBy = new Map<string, ReadonlyMap<string, UdpTarget>>();
  #saidFailure = false;

  constructor(options: FlowCleanerOptions) {
    this.#options = options;
  }

  /** All of whose flows it knows something. */
  get services(): Iterable<string> {
    return this.#ledBy.keys();
  }

  /**
   * Looks at the flows of these Services, and of those that wait.
   *
   * @returns how many were forgotten; `again` if it could not be done. Never
   *   fails a sync: the rules are right without it
   */
  async forget(
    services: Iterable<string>,
    { localIps, signal }: {
      readonly localIps: readonly string[];
      readonly signal: AbortSignal;
    },
  ): Promise<number | "again"> {
    for (const key of services) this.#wait(key);
    const targets = [...this.#waiting].flatMap((key) => this.#targets(key));
    try {
      const { family, runner } = this.#options;
      const options = { family, localIps, runner, signal };
      const count = await forgetStaleFlows(targets, options);
      this.#settle();
      this.#saidFailure = false;
      if (count > 0) logger.debug("Forgot stale UDP flows", { count });
      return count;
    } catch (error) {
      signal.throwIfAborted();
      this.#sayFailure(error);
      if (isProgramMissing(error)) {
        // Nothing to try again: as good as it gets.
        this.#settle();
        return 0;
      }
      for (const key of [...this.#waiting].slice(0, -WAITING_MAX)) {
        this.#settleOne(key);
      }
      return "again";
    }
  }

  /** Most Services have nothing to do with UDP. */
  #wait(key: string): void {
    const concerns = this.#ledBy.has(key) || this.#portsOf(key).length > 0;
    if (concerns) this.#waiting.add(key);
  }

  /** Of one Service: what it had, overruled by what it has. */
  #targets(key: string): UdpTarget[] {
    const now = this.#portsOf(key);
    const before = this.#ledBy.get(key) ?? new Map();
    this.#ledBy.set(key, new Map([...before, ...ledBy(now)]));
    return [
      ...before.values(),
      ...now.map((port) => udpTarget(port)).filter((each) =>
        each !== undefined
      ),
    ];
  }

  #settle(): void {
    for (const key of [...this.#waiting]) this.#settleOne(key);
  }

  #settleOne(key: string): void {
    this.#waiting.delete(key);
    const now = ledBy(this.#portsOf(key));
    if (now.size === 0) this.#ledBy.delete(key);
    else this.#ledBy.set(key, now);
  }

  #portsOf(key: string): ServicePortState[] {
    const { state, family } = this.#options;
    return (state.get(key)?.ports ?? []).filter(({ servicePort }) =>
      servicePort.protocol === "UDP" && servicePort.family === family
    );
  }

  #sayFailure(error: unknown): void {
    if (this.#saidFailure) return;
    this.#saidFailure = true;
    logger.warn(
      "Cannot forget UDP flows to endpoints that are gone: their clients wait for the kernel to do so",
      {
        family: this.#options.family,
        reason: error instanceof Error ? error.message : String(error),
      },
    );
  }
}

/** Targets without endpoints, by their addresses. */
function ledBy(ports: readonly ServicePortState[]): Map<string, UdpTarget> {
  const targets = new Map<string, UdpTarget>();
  for (const port of ports) {
    const target = udpTarget(port, { isGone: true });
    if (target === undefined) continue;
    const key = [...target.addresses, target.nodePort].join();
    targets.set(key, target);
  }
  return targets;
}
