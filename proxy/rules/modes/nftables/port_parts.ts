/**
 * What one ServicePort adds to the nftables table: its chains and sets, and the
 * elements that lead there. A pure function of that ServicePort, so that a
 * change of one costs the work of one; `table_parts.ts` puts the parts of all
 * together.
 *
 * @module
 */
import type { ModePort } from "../mode_input.ts";
import { portChains } from "./port_chains.ts";
import { portElements } from "./port_elements.ts";
import { type PortInput, portView } from "./port_view.ts";
import type { TablePart } from "./table_parts.ts";

/** Everything that is wanted of one ServicePort. */
export function portParts(port: ModePort, input: PortInput): TablePart[] {
  const view = portView(port, input);
  return [...portChains(view), ...portElements(view)];
}
