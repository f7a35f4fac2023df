/**
 * Joins what arrives in any order: keeps the latest Service and slices for each
 * Service name, and makes the desired state of just those that changed.
 *
 * Contract:
 * 1. After any sequence of changes, `state` equals `buildDesiredState` of the
 *    objects that are left.
 * 2. `takeChanges` costs the work of the Services that changed since the last
 *    call, not of all of them.
 * 3. Slices may come before their Service and stay after it.
 * 4. A Service that nothing can be made of costs no other one its change.
 *
 * @module
 */
import { isDeepStrictEqual } from "node:util";
import type { Change, EndpointSlice, Node, Service } from "../watch/types.ts";
import {
  type DesiredState,
  serviceKeyOf,
  type ServiceState,
  serviceState,
} from "./desired_state.ts";
import type { NodeView } from "./topology.ts";

export interface StateChanges {
  /** Services that are new, or whose state is not what it was. */
  readonly changed: readonly ServiceState[];
  /** Keys of Services that are gone. */
  readonly removed: readonly string[];
}

interface Joined {
  service?: Service | undefined;
  /** By the slice's own key. */
  readonly slices: Map<string, EndpointSlice>;
}

export class StateTracker {
  readonly #joined = new Map<string, Joined>();
  readonly #state = new Map<string, ServiceState>();
  readonly #dirty = new Set<string>();
  #node: NodeView;

  /** @param nodeName empty where it is not known: then nothing is local */
  constructor(nodeName: string) {
    this.#node = { name: nodeName, zone: "" };
  }

  /** As of the last `takeChanges`. */
  get state(): DesiredState {
    return this.#state;
  }

  get node(): NodeView {
    return this.#node;
  }

  applyServices(changes: Iterable<Change<Service>>): void {
    for (const { key, after } of changes) {
      const joined = this.#join(key);
      joined.service = after;
      this.#dirty.add(key);
      this.#forgetIfEmpty(key, joined);
    }
  }

  applyEndpointSlices(changes: Iterable<Change<EndpointSlice>>): void {
    for (const { key, before, after } of changes) {
      // A slice can change hands by a changed label (fact 2.11).
      const oldOwner = before && serviceKeyOf(before);
      const newOwner = after && serviceKeyOf(after);
      if (oldOwner !== undefined && oldOwner !== newOwner) {
        const joined = this.#join(oldOwner);
        joined.slices.delete(key);
        this.#dirty.add(oldOwner);
        this.#forgetIfEmpty(oldOwner, joined);
      }
      if (after !== undefined && newOwner !== undefined) {
        this.#join(newOwner).slices.set(key, after);
        this.#dirty.add(newOwner);
      }
    }
  }

  /** Only the zone label matters; a deleted Node keeps it (facts 5.62, 5.63). */
  applyNode(changes: Iterable<Change<Node>>): void {
    for (const { after } of changes) {
      if (after === undefined || after.metadata.name !== this.#node.name) {
        continue;
      }
      const zone = after.metadata.labels["topology.kubernetes.io/zone"] ?? "";
      if (zone === this.#node.zone) continue;
      this.#node = { ...this.#node, zone };
      for (const key of this.#joined.keys()) this.#dirty.add(key);
    }
  }

  /** How many Service names it holds an object for. */
  get size(): number {
    return this.#joined.size;
  }

  get hasChanges(): boolean {
    return this.#dirty.size > 0;
  }

  /**
   * Brings `state` up to date and says what is different; nothing for changes
   * that cancelled each other or do not show (facts 1.48, 1.55).
   */
  takeChanges(): StateChanges {
    const changes = { changed: [], removed: [] };
    for (const _ of this.#taking(changes));
    return changes;
  }

  /**
   * The same in turns, for many changes: `rest` is awaited in between. What
   * changes meanwhile is left to the next call.
   */
  async takeChangesInTurns(
    turns: { readonly isOver: boolean; rest(): Promise<void> },
  ): Promise<StateChanges> {
    const changes = { changed: [], removed: [] };
    for (const _ of this.#taking(changes)) {
      if (turns.isOver) await turns.rest();
    }
    return changes;
  }

  /** Works off what is dirty, one Service after the other. */
  *#taking(
    { changed, removed }: { changed: ServiceState[]; removed: string[] },
  ): Generator<void> {
    const keys = [...this.#dirty];
    this.#dirty.clear();
    for (const key of keys) {
      yield;
      const joined = this.#joined.get(key);
      if (joined?.service !== undefined) {
        const next = this.#stateOf(key, joined.service, joined.slices);
        // A new label, a resourceVersion, a redelivered object: nothing that
        // shows. The old state stays, so that nobody downstream does work.
        if (isDeepStrictEqual(next, this.#state.get(key))) continue;
        this.#state.set(key, next);
        changed.push(next);
      } else if (this.#state.delete(key)) removed.push(key);
    }
  }

  /**
   * What throws here is a bug, whatever the object: it is that Service's problem
   * alone, and what was served of it goes on.
   */
  #stateOf(
    key: string,
    service: Service,
    slices: Joined["slices"],
  ): ServiceState {
    try {
      return serviceState(service, {
        slices: slices.values(),
        node: this.#node,
      });
    } catch (error) {
      const ports = this.#state.get(key)?.ports ?? [];
      const problem = `Cannot tell what is to be served; nothing changes: ${
        String(error)
      }`;
      return { key, ports, problems: [problem] };
    }
  }

  #join(key: string): Joined {
    const known = this.#joined.get(key);
    if (known !== undefined) return known;
    const joined: Joined = { slices: new Map() };
    this.#joined.set(key, joined);
    return joined;
  }

  #forgetIfEmpty(key: string, joined: Joined): void {
    if (joined.service === undefined && joined.slices.size === 0) {
      this.#joined.delete(key);
    }
  }
}
