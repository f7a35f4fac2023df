/**
 * EndpointSlices: their fields, defaults (pkg/apis/discovery/v1/defaults.go),
 * what is valid (pkg/apis/discovery/validation) and their row in `kubectl
 * get`. The real server refuses loopback and link-local addresses here; this
 * one takes them, since the demo's endpoints live on 127.0.0.1.
 *
 * @module
 */
import { familyOf } from "./addresses.ts";
import { ageCell, shortListCell } from "./columns.ts";
import { nameErrors } from "./names.ts";
import {
  type Admission,
  ALL_VERBS,
  type KubeObject,
  records,
  type ResourceDefinition,
  text,
  texts,
} from "./resource.ts";
import {
  any,
  boolean,
  integer,
  kubeObject,
  list,
  object,
  string,
  stringMap,
  strings,
} from "./schema.ts";
import { isPort, PORT_RANGE_TEXT } from "./service_validation.ts";
import { type FieldError, fieldError } from "./status.ts";

const { invalid, required, duplicate, notSupported, tooMany } = fieldError;

const ADDRESS_TYPES = ["FQDN", "IPv4", "IPv6"];
const PROTOCOLS = ["SCTP", "TCP", "UDP"];
const MAX_ENDPOINTS = 1000;
const MAX_ADDRESSES = 100;
const MAX_PORTS = 20_000;

const schema = kubeObject({
  addressType: string,
  endpoints: list(object({
    addresses: strings,
    conditions: object({
      ready: boolean,
      serving: boolean,
      terminating: boolean,
    }),
    hostname: string,
    targetRef: any,
    deprecatedTopology: stringMap,
    nodeName: string,
    zone: string,
    hints: object({
      forZones: list(object({ name: string })),
      forNodes: list(object({ name: string })),
    }),
  })),
  ports: list(object({
    name: string,
    protocol: string,
    port: integer,
    appProtocol: string,
  })),
});

export const endpointSlices: ResourceDefinition = {
  group: "discovery.k8s.io",
  version: "v1",
  plural: "endpointslices",
  singular: "endpointslice",
  kind: "EndpointSlice",
  shortNames: [],
  namespaced: true,
  verbs: ALL_VERBS,
  schema,
  hasStatus: false,
  hasGeneration: true,
  nameRule: "subdomain",
  emptyFields: { addressType: "", endpoints: null, ports: null },
  fields: () => ({}),
  setDefaults,
  validate,
  columns: [
    { name: "Name", cell: (slice) => slice.metadata.name },
    { name: "AddressType", cell: (slice) => text(slice.addressType) },
    { name: "Ports", cell: portsCell },
    {
      name: "Endpoints",
      cell: (slice) =>
        shortListCell(
          records(slice.endpoints).flatMap(({ addresses }) => texts(addresses)),
          "<unset>",
        ),
    },
    { name: "Age", cell: ageCell },
  ],
};

function setDefaults(slice: KubeObject): void {
  // Go writes a slice that is nil as null, and leaves neither out.
  slice.endpoints ??= null;
  slice.ports ??= null;
  for (const port of records(slice.ports)) {
    port.name ??= "";
    port.protocol ??= "TCP";
  }
}

function validate(slice: KubeObject, { previous }: Admission): FieldError[] {
  const errors: FieldError[] = [];
  const type = text(slice.addressType);
  if (type === "") errors.push(required("addressType"));
  else if (!ADDRESS_TYPES.includes(type)) {
    errors.push(notSupported("addressType", type, ADDRESS_TYPES));
  }
  if (previous !== undefined && previous.addressType !== type) {
    errors.push(invalid("addressType", type, "field is immutable"));
  }
  const endpoints = records(slice.endpoints);
  if (endpoints.length > MAX_ENDPOINTS) {
    errors.push(tooMany("endpoints", endpoints.length, MAX_ENDPOINTS));
  } else {
    for (const [index, endpoint] of endpoints.entries()) {
      errors.push(...endpointErrors(endpoint, `endpoints[${index}]`, type));
    }
  }
  errors.push(...portsErrors(records(slice.ports)));
  return errors;
}

function endpointErrors(
  endpoint: Record<string, unknown>,
  field: string,
  type: string,
): FieldError[] {
  const addresses = texts(endpoint.addresses);
  if (addresses.length === 0) {
    return [
      required(`${field}.addresses`, "must contain at least 1 address"),
    ];
  }
  if (addresses.length > MAX_ADDRESSES) {
    const path = `${field}.addresses`;
    return [tooMany(path, addresses.length, MAX_ADDRESSES)];
  }
  const errors = addresses.flatMap((address, index) =>
    addressErrors(`${field}.addresses[${index}]`, address, type)
  );
  const hostname = text(endpoint.hostname);
  if (hostname !== "") {
    errors.push(...nameErrors(`${field}.hostname`, hostname, "label"));
  }
  const nodeName = text(endpoint.nodeName);
  if (nodeName !== "") {
    errors.push(...nameErrors(`${field}.nodeName`, nodeName, "subdomain"));
  }
  return errors;
}

function addressErrors(
  field: string,
  address: string,
  type: string,
): FieldError[] {
  if (type === "FQDN") return nameErrors(field, address, "subdomain");
  const family = familyOf(address);
  if (type !== "IPv4" && type !== "IPv6") return [];
  if (family !== type) {
    return [invalid(field, address, `must be an ${type} address`)];
  }
  return address === "0.0.0.0" || address === "::"
    ? [invalid(field, address, "may not be unspecified (0.0.0.0 or ::)")]
    : [];
}

function portsErrors(ports: Record<string, unknown>[]): FieldError[] {
  if (ports.length > MAX_PORTS) {
    return [tooMany("ports", ports.length, MAX_PORTS)];
  }
  const errors: FieldError[] = [];
  const names = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const field = `ports[${index}]`;
    const name = text(port.name);
    if (name !== "") errors.push(...nameErrors(`${field}.name`, name, "label"));
    if (names.has(name)) errors.push(duplicate(`${field}.name`, name));
    names.add(name);
    if (!PROTOCOLS.includes(text(port.protocol))) {
      errors.push(notSupported(`${field}.protocol`, port.protocol, PROTOCOLS));
    }
    if (port.port !== undefined && !isPort(port.port)) {
      errors.push(invalid(`${field}.port`, port.port, PORT_RANGE_TEXT));
    }
  }
  return errors;
}

/** A port without a number is "all ports". */
function portsCell(slice: KubeObject): string {
  const ports = records(slice.ports).map(({ port }) => String(port ?? "*"));
  return shortListCell(ports, "<unset>");
}
