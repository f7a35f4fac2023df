/**
 * Compiles the snapshot to the program that upstream's nftables mode loads: one
 * table, complete. Pure.
 *
 * @module
 */
import type { ModeInput } from "../mode_input.ts";
import { baseTable } from "./base.ts";
import { portParts } from "./port_parts.ts";
import type { NftSet, NftTable } from "./program.ts";
import {
  type PlacedElement,
  type TablePart,
  TableParts,
} from "./table_parts.ts";

/** The table of one IP family. */
export function compileNftables(input: ModeInput): NftTable {
  const parts = new TableParts();
  for (const port of input.ports) {
    parts.set(port.servicePort, portParts(port, input));
  }
  return wholeTable(baseTable(input), parts.all());
}

/** The base with everything that ServicePorts want of it. */
export function wholeTable(
  base: NftTable,
  parts: readonly TablePart[],
): NftTable {
  const chains = parts.flatMap((part) =>
    part.kind === "chain" ? [part.chain] : []
  );
  const sets = parts.flatMap((part) => part.kind === "set" ? [part.set] : []);
  const placed = Map.groupBy(
    parts.flatMap((part) => part.kind === "elements" ? part.elements : []),
    ({ of }) => of,
  );
  const filled = (set: NftSet) => withElements(set, placed.get(set.name) ?? []);
  return {
    ...base,
    sets: [...base.sets.map(filled), ...sets],
    maps: base.maps.map(filled),
    chains: [...base.chains, ...chains],
  };
}

function withElements(set: NftSet, placed: readonly PlacedElement[]): NftSet {
  const elements = placed.map(({ element }) => element);
  return { ...set, elements: [...set.elements, ...elements] };
}
