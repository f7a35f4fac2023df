/**
 * What is known of the own node: its object, what flags and the configuration
 * say of addresses, and the machine's interfaces. In: all of these, whenever
 * they change. Out: the addresses that Services are served on, for whoever
 * serves them.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Node } from "../../watch/types.ts";
import { isLoopback } from "../ip.ts";
import {
  NO_NODE_ADDRESSES,
  type NodeAddresses,
  nodeAddresses,
} from "../node_addresses.ts";
import type { ModeStage } from "./mode_stage.ts";
import type { AddressSettings, SharedOptions } from "./running_proxy.ts";

const logger = getLogger("main");

export class OwnNodeTracker {
  readonly #options: SharedOptions;
  #settings: AddressSettings;
  /** As last seen: one that is deleted stays what it was (fact 7.11). */
  #node: Node | undefined;
  #addresses = NO_NODE_ADDRESSES;
  #isStale = true;

  constructor(options: SharedOptions) {
    this.#options = options;
    this.#settings = options.addresses ?? {};
  }

  get node(): Node | undefined {
    return this.#node;
  }

  /** As of the last `show`. */
  get addresses(): NodeAddresses {
    return this.#addresses;
  }

  /** Of the cluster's pods, as far as it is known. */
  get podCidrs(): readonly string[] {
    return [
      ...this.#settings.clusterCidrs ?? [],
      ...this.#node?.spec.podCIDRs ?? [],
    ];
  }

  /** @param node as the API server has it; missing if it has none */
  apply(node: Node | undefined): void {
    this.#node = node ?? this.#node;
    this.#isStale = true;
    if (this.#node === undefined && !this.#options.nodeNotNeeded) {
      sayNoNode(this.#options.nodeName);
    }
  }

  setSettings(settings: AddressSettings): void {
    this.#settings = settings;
    this.#isStale = true;
  }

  /** Interfaces come and go, and nobody says so. */
  lookAgain(): void {
    this.#isStale = true;
  }

  /**
   * Tells a stage, if anything may have changed. Changes of Services do not
   * wait for it: a failure is logged.
   *
   * @returns `again` if it failed
   */
  show(stage: ModeStage): "done" | "again" {
    if (!this.#isStale) return "done";
    try {
      this.#show(stage);
      this.#isStale = false;
      return "done";
    } catch (error) {
      logger.error("Cannot look at the node's addresses; trying again", {
        cause: error,
      });
      return "again";
    }
  }

  #show(stage: ModeStage): void {
    const interfaceIps = this.#options.interfaceIps()
      .filter((ip) => !stage.isOurs(ip));
    const settings = this.#settings;
    const all = nodeAddresses({
      selection: settings.nodePorts ?? { cidrs: [], primary: false },
      clusterCidrs: settings.clusterCidrs ?? [],
      bindAddress: settings.bindAddress ?? "",
      node: this.#node,
      interfaceIps,
    });
    this.#addresses = settings.localhostNodePorts === false
      ? { ...all, nodePortIps: all.nodePortIps.filter((ip) => !isLoopback(ip)) }
      : all;
    stage.setNode({
      addresses: this.#addresses,
      node: this.#node,
      interfaceIps,
    });
  }
}

/** Mostly a name that is not the kubelet's, and nothing else would show it. */
function sayNoNode(nodeName: string): void {
  logger.warn(
    "The API server has no Node of this name; until it has, /healthz answers 503. Is --hostname-override right?",
    { node: nodeName },
  );
}
