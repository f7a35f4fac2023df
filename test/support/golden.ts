/**
 * The cluster for which a real kube-proxy's rules were recorded
 * (`test/fixture/golden/`), as desired state, and what else went into them.
 *
 * @module
 */
import { buildDesiredState } from "../../proxy/desired_state.ts";
import type { IpFamily } from "../../proxy/ip.ts";
import {
  type KernelMode,
  type ModeFacts,
  type ModeInput,
  modeInput,
} from "../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "./mode_settings.ts";
import {
  decodeEndpointSlice,
  decodeNode,
  decodeService,
} from "../../watch/decode.ts";
import type { EndpointSlice } from "../../watch/types.ts";

const GOLDEN = new URL("../fixture/golden/", import.meta.url);

export function goldenText(name: string): string {
  return Deno.readTextFileSync(new URL(name, GOLDEN));
}

function items(name: string): unknown[] {
  return (JSON.parse(goldenText(name)) as { items: unknown[] }).items;
}

/** What each mode was given. */
export function goldenInput(mode: KernelMode, family: IpFamily): ModeInput {
  return modeInput({ mode, ...goldenFacts(family) });
}

/** The same as it is known, and the slices that it was made from. */
export function goldenFacts(
  family: IpFamily,
): Omit<ModeFacts, "mode"> & { slices: EndpointSlice[] } {
  const nodes = items("input-nodes.json").map(decodeNode);
  const name = "kp";
  const slices = items("input-endpointslices.json").map(decodeEndpointSlice);
  return {
    family,
    slices,
    state: buildDesiredState(
      items("input-services.json").map(decodeService),
      { slices, node: { name, zone: "zone-a" } },
    ),
    settings: {
      ...DEFAULT_MODE_SETTINGS,
      clusterCidrs: ["10.244.0.0/16"],
    },
    nodeName: name,
    node: nodes.find(({ metadata }) => metadata.name === name),
    interfaceIps: ["127.0.0.1", "::1", "10.200.0.2"],
    serviceCidrs: ["10.96.0.0/16"],
  };
}
