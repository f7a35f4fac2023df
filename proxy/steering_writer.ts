/**
 * Tells the steering strategy what became of addresses and listeners, when its
 * turn has come. In: what the pass has collected. Out: what could not be
 * steered. What a strategy threw at is told to it again.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "../watch/clock.ts";
import type { Engine } from "./engine/engine.ts";
import { singleAddressCidr } from "./ip.ts";
import { addressKey } from "./listen_addresses.ts";
import type { ListenerChanges, Steering, SteeringResult } from "./steering.ts";
import type { SteeringPass } from "./steering_pass.ts";
import { WritePace } from "./write_pace.ts";

const logger = getLogger("proxy");

export interface SteeringWriterOptions {
  readonly engine: Engine;
  /** Already started. */
  readonly steering: Steering;
  /** How often rules may be written; without it, always. */
  readonly pace?: {
    /** `minSyncPeriod`, milliseconds. */
    readonly periodMs: number;
    readonly clock: Pick<Clock, "now">;
  };
}

export class SteeringWriter {
  readonly #options: SteeringWriterOptions;
  readonly #pass: SteeringPass;
  readonly #pace: WritePace;
  #dueAt: number | undefined;
  /** External addresses that are listened on: key → IP address. */
  readonly #ownIps = new Map<string, string>();
  #nodeSources: readonly string[] = [];
  /** Address key → why it is not steered, as last said. */
  readonly #failures = new Map<string, string>();
  /** What an earlier run left is removed by a first pass, even an empty one. */
  #isFirstPass = true;

  constructor(options: SteeringWriterOptions, pass: SteeringPass) {
    this.#options = options;
    this.#pass = pass;
    this.#pace = new WritePace(options.pace?.periodMs ?? 0);
  }

  /** When what had to wait may be written, milliseconds since 1970. */
  get dueAt(): number | undefined {
    return this.#dueAt;
  }

  /** Address key → why packets for it do not come. */
  get failures(): ReadonlyMap<string, string> {
    return this.#failures;
  }

  /** Whether there is nothing to tell. */
  get isIdle(): boolean {
    return !this.#isFirstPass && this.#pass.isEmpty;
  }

  /** Before anything listens there. */
  async prepare(signal: AbortSignal): Promise<void> {
    const added = this.#pass.takeAdded();
    if (added.length === 0) return;
    try {
      const { steering } = this.#options;
      this.#reportFailures(await steering.prepare(added, signal));
    } catch (error) {
      this.#pass.putBackAdded(added);
      throw error;
    }
  }

  /** What became of listeners; or nothing, if its turn has not come. */
  async write(signal: AbortSignal): Promise<void> {
    const { steering, pace } = this.#options;
    const now = () => pace?.clock.now() ?? 0;
    const waitMs = this.#isFirstPass ? 0 : this.#pace.waitMs(now());
    if (waitMs > 0) {
      this.#dueAt = now() + waitMs;
      return;
    }
    this.#dueAt = undefined;
    const next = this.#pass.takeChanges();
    let result: SteeringResult;
    try {
      this.#noteOwnIps(next);
      result = await steering.sync(next, signal);
    } catch (error) {
      this.#pass.putBack(next);
      throw error;
    }
    // A strategy that has nothing to write is never slowed down.
    if (result.written > 0) this.#pace.wrote(now());
    this.#reportFailures(result);
    for (const address of next.released) {
      this.#failures.delete(addressKey(address));
    }
    this.#isFirstPass = false;
  }

  /** Puts back what somebody removed. */
  async repair(signal: AbortSignal): Promise<SteeringResult> {
    const result = await this.#options.steering.repair(signal);
    if (result.written > 0) {
      logger.warn("Steering was changed by somebody else; put back", {
        written: result.written,
      });
    }
    const failing = new Set(
      result.failures.map(({ address }) => addressKey(address)),
    );
    for (const key of this.#failures.keys()) {
      if (!failing.has(key)) this.#failures.delete(key);
    }
    this.#reportFailures(result);
    return result;
  }

  /** Who counts as a client of the cluster, but for who has our addresses. */
  setNodeSources(cidrs: readonly string[]): void {
    this.#nodeSources = cidrs;
    this.#setClusterSources();
  }

  /**
   * An external address is listened on only where it is local, and then what
   * this node sends to it leaves from that same address: whoever has it is no
   * outsider, be it on an interface or, by AnyIP, on none.
   */
  #noteOwnIps({ opened, closed, released }: ListenerChanges): void {
    const before = this.#ownIps.size;
    let isChanged = false;
    for (const address of [...closed, ...released]) {
      isChanged = this.#ownIps.delete(addressKey(address)) || isChanged;
    }
    for (const { address } of opened) {
      if (address.kind === "ClusterIP" || address.kind === "NodePort") continue;
      this.#ownIps.set(addressKey(address), address.ip);
    }
    if (isChanged || this.#ownIps.size !== before) this.#setClusterSources();
  }

  #setClusterSources(): void {
    const own = [...new Set(this.#ownIps.values())].map(singleAddressCidr);
    this.#options.engine.setClusterSources([...this.#nodeSources, ...own]);
  }

  /** Each once, and again when the reason is another. */
  #reportFailures({ failures }: SteeringResult): void {
    for (const { address, error } of failures) {
      const key = addressKey(address);
      if (this.#failures.get(key) === error.message) continue;
      this.#failures.set(key, error.message);
      logger.warn(`Cannot steer ${address.name} to its listener`, {
        reason: error.message,
      });
    }
  }
}
