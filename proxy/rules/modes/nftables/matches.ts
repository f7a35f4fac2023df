/**
 * What several chains of the nftables program ask, or do, in the same words.
 * Pure.
 *
 * @module
 */
import type { LocalDetector, ModeInput } from "../mode_input.ts";
import type { NftMatch, NftStatement } from "./program.ts";

/** The packet is from a pod of this node; `undefined`: nothing tells. */
export function podMatch(detector: LocalDetector): NftMatch | undefined {
  switch (detector.kind) {
    case "none":
      return undefined;
    case "cidr":
      return {
        kind: "match",
        fields: ["saddr"],
        of: { values: [detector.cidr] },
      };
    case "interface":
      return {
        kind: "match",
        fields: ["iifname"],
        of: { values: [detector.name] },
      };
    case "interface-prefix":
      return {
        kind: "match",
        fields: ["iifname"],
        of: { values: [`${detector.prefix}*`] },
      };
  }
}

/** Asks for masquerading, once the packet leaves. */
export function setMark(
  { masqueradeBit }: Pick<ModeInput, "masqueradeBit">,
): NftStatement {
  return { kind: "set-mark", operation: "or", bits: bitOf(masqueradeBit) };
}

/** The number with this bit alone; never negative. */
export function bitOf(bit: number): number {
  return 2 ** bit;
}
