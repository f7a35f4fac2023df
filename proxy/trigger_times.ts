/**
 * When the changes that wait for the next sync happened in the cluster: the
 * times that the EndpointSlice controller writes on slices, collected until a
 * sync has made them so; what upstream's endpoint change tracker does for
 * `network_programming_duration` (facts 9.12–9.16).
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Change, EndpointSlice } from "../watch/types.ts";
import { serviceKeyOf } from "./desired_state.ts";
import type { IpFamily } from "./ip.ts";

const ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time";

export interface TriggerTime {
  readonly family: IpFamily;
  /** Milliseconds since 1970. */
  readonly at: number;
}

/**
 * 1. A slice that came or whose endpoints or ports changed counts, once for
 *    each change (fact 9.15); a new label or resourceVersion does not.
 * 2. A slice that went wipes what was collected for its Service: its time is
 *    that of an earlier change.
 * 3. What happened before the tracker was made, or cannot be read, does not
 *    count (facts 9.13, 9.14).
 */
export class TriggerTimes {
  readonly #startedAt: number;
  /** Service key → what waits. */
  readonly #waiting = new Map<string, TriggerTime[]>();

  /** @param startedAt milliseconds since 1970 */
  constructor(startedAt: number) {
    this.#startedAt = startedAt;
  }

  note(changes: Iterable<Change<EndpointSlice>>): void {
    for (const { before, after } of changes) {
      const service = (after ?? before) && serviceKeyOf((after ?? before)!);
      if (service === undefined) continue;
      if (after === undefined) this.#waiting.delete(service);
      else if (isEffective(before, after)) this.#add(service, after);
    }
  }

  #add(service: string, { metadata, addressType }: EndpointSlice): void {
    const at = Date.parse(metadata.annotations[ANNOTATION] ?? "");
    if (Number.isNaN(at) || at <= this.#startedAt) return;
    if (addressType !== "IPv4" && addressType !== "IPv6") return;
    const waiting = this.#waiting.get(service) ?? [];
    waiting.push({ family: addressType, at });
    this.#waiting.set(service, waiting);
  }

  /** Hands out what was collected; a sync that fails loses it (fact 9.16). */
  take(): TriggerTime[] {
    const taken = [...this.#waiting.values()].flat();
    this.#waiting.clear();
    return taken;
  }
}

function isEffective(
  before: EndpointSlice | undefined,
  after: EndpointSlice,
): boolean {
  return before === undefined || before.addressType !== after.addressType ||
    serviceKeyOf(before) !== serviceKeyOf(after) ||
    !isDeepStrictEqual(before.ports, after.ports) ||
    !isDeepStrictEqual(before.endpoints, after.endpoints);
}
