/**
 * The elements of sets and maps that lead packets to the chains of one
 * ServicePort, or keep them out (facts 5.45–5.51, 5.56, 6.24, 10.37, 10.39).
 * Pure.
 *
 * @module
 */
import type { Endpoint } from "../../../endpoint.ts";
import type { ModePort } from "../mode_input.ts";
import {
  CLUSTER_IPS,
  FIREWALL_IPS,
  HAIRPINS,
  NO_ENDPOINT_NODEPORTS,
  NO_ENDPOINT_SERVICES,
  REJECT_CHAIN,
  SERVICE_IPS,
  SERVICE_NODEPORTS,
} from "./names.ts";
import { goTo, hasFirewall, type PortView } from "./port_view.ts";
import type { NftVerdict } from "./program.ts";
import type { PlacedElement, TablePart } from "./table_parts.ts";

/** How packets find a ServicePort: its entries in the maps that all share. */
export function portElements(view: PortView): TablePart[] {
  const { port, protocol } = view;
  return [
    ...port.all.filter(({ isLocal }) => isLocal)
      .map((endpoint) => hairpin(endpoint, protocol)),
    ...addressParts(view),
    ...nodePortParts(view),
  ];
}

/** An endpoint that reaches itself must see another's address (fact 5.56). */
function hairpin({ ip, port }: Endpoint, protocol: string): TablePart {
  const key = [ip, ip, protocol, String(port)];
  return {
    kind: "elements",
    key: `hairpin ${key.join(" . ")}`,
    elements: [{ kind: "set", of: HAIRPINS, element: { key } }],
    isTyped: false,
  };
}

/** Where packets go that no policy keeps out, and what becomes of the others. */
interface Destination {
  readonly chain: string | undefined;
  readonly otherwise: NftVerdict | undefined;
}

/** No endpoint anywhere refuses; a policy drops (facts 5.45–5.47). */
function otherwise(
  { hasAny }: ModePort,
  endpoints: readonly Endpoint[],
): NftVerdict | undefined {
  if (!hasAny) return goTo(REJECT_CHAIN);
  return endpoints.length === 0 ? { verdict: "drop" } : undefined;
}

function internalDestination({ port, service, base }: PortView): Destination {
  const prefix = service.internalPolicyLocal ? "local" : "service";
  return {
    chain: port.internal.length > 0 ? `${prefix}-${base}` : undefined,
    otherwise: otherwise(port, port.internal),
  };
}

/** Even with nothing for clients from outside, others are let through. */
function externalDestination({ port, base, outside }: PortView): Destination {
  return {
    chain: port.hasAny ? `external-${base}` : undefined,
    otherwise: otherwise(port, outside),
  };
}

function addressParts(view: PortView): TablePart[] {
  const { service, base } = view;
  const external = externalDestination(view);
  const firewall = hasFirewall(service)
    ? [{ of: FIREWALL_IPS, verdict: goTo(`firewall-${base}`) }]
    : [];
  return [
    {
      kind: "elements",
      key: `cluster-ip ${service.clusterIP}`,
      elements: [{
        kind: "set",
        of: CLUSTER_IPS,
        element: { key: [service.clusterIP] },
      }],
      isTyped: false,
    },
    addressPart(service.clusterIP, {
      view,
      places: places(view, internalDestination(view), SERVICE_MAPS),
      isTyped: false,
    }),
    ...service.externalIPs.map((ip) =>
      addressPart(ip, {
        view,
        places: places(view, external, SERVICE_MAPS),
        isTyped: true,
      })
    ),
    ...service.loadBalancerIPs.map((ip) =>
      addressPart(ip, {
        view,
        places: [...places(view, external, SERVICE_MAPS), ...firewall],
        isTyped: true,
      })
    ),
  ];
}

/** A verdict in a map, without the address that it is for. */
interface Place {
  readonly of: string;
  readonly verdict: NftVerdict;
  readonly comment?: string;
}

const SERVICE_MAPS = { served: SERVICE_IPS, refused: NO_ENDPOINT_SERVICES };
const NODEPORT_MAPS = {
  served: SERVICE_NODEPORTS,
  refused: NO_ENDPOINT_NODEPORTS,
};

function places(
  { service }: PortView,
  { chain, otherwise }: Destination,
  maps: typeof SERVICE_MAPS,
): Place[] {
  return [
    ...chain === undefined ? [] : [{ of: maps.served, verdict: goTo(chain) }],
    ...otherwise === undefined ? [] : [{
      of: maps.refused,
      verdict: otherwise,
      comment: service.text,
    }],
  ];
}

function addressPart(
  ip: string,
  { view, places, isTyped }: {
    view: PortView;
    places: readonly Place[];
    isTyped: boolean;
  },
): TablePart {
  const { protocol, service } = view;
  const key = [ip, protocol, String(service.portNumber)];
  return placedPart(`address ${key.join(" . ")}`, { key, places, isTyped });
}

function placedPart(
  partKey: string,
  { key, places, isTyped }: {
    key: readonly string[];
    places: readonly Place[];
    isTyped: boolean;
  },
): TablePart {
  const elements = places.map(({ of, ...value }): PlacedElement => ({
    kind: "map",
    of,
    element: { key, ...value },
  }));
  return { kind: "elements", key: partKey, elements, isTyped };
}

function nodePortParts(view: PortView): TablePart[] {
  const { service, protocol } = view;
  if (service.nodePort === 0) return [];
  const key = [protocol, String(service.nodePort)];
  const destination = externalDestination(view);
  return [placedPart(`nodeport ${key.join(" . ")}`, {
    key,
    places: places(view, destination, NODEPORT_MAPS),
    isTyped: false,
  })];
}
