/**
 * Kubernetes' protobuf, read only, and only of what kubectl sends in it: newer
 * ones (1.32) do so for `create service`, `create namespace` and `auth can-i`
 * without asking whether the server can read it. Field numbers are those of
 * the generated.proto files under k8s.io/api. Answers are always JSON.
 *
 * @module
 */
import { badRequest } from "./status.ts";

export const PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf";

/**
 * How a field is read. Go writes zero values, too: they are dropped, but for a
 * `pointer` (to a number or a bool), which is only written when it is set.
 */
type FieldType =
  | "string"
  | "number"
  | "boolean"
  | "pointer"
  | "flag"
  | "map"
  | "intOrString"
  | Message;

interface Field {
  readonly name: string;
  readonly type: FieldType;
  readonly repeated?: true;
}

type Message = Readonly<Record<number, Field>>;

function one(name: string, type: FieldType): Field {
  return { name, type };
}

function many(name: string, type: FieldType): Field {
  return { name, type, repeated: true };
}

const METADATA: Message = {
  1: one("name", "string"),
  2: one("generateName", "string"),
  3: one("namespace", "string"),
  11: one("labels", "map"),
  12: one("annotations", "map"),
  14: many("finalizers", "string"),
};

const SERVICE_SPEC: Message = {
  1: many("ports", {
    1: one("name", "string"),
    2: one("protocol", "string"),
    3: one("port", "number"),
    4: one("targetPort", "intOrString"),
    5: one("nodePort", "number"),
    6: one("appProtocol", "string"),
  }),
  2: one("selector", "map"),
  3: one("clusterIP", "string"),
  4: one("type", "string"),
  5: many("externalIPs", "string"),
  7: one("sessionAffinity", "string"),
  8: one("loadBalancerIP", "string"),
  9: many("loadBalancerSourceRanges", "string"),
  10: one("externalName", "string"),
  11: one("externalTrafficPolicy", "string"),
  12: one("healthCheckNodePort", "number"),
  13: one("publishNotReadyAddresses", "boolean"),
  14: one("sessionAffinityConfig", {
    1: one("clientIP", { 1: one("timeoutSeconds", "pointer") }),
  }),
  17: one("ipFamilyPolicy", "string"),
  18: many("clusterIPs", "string"),
  19: many("ipFamilies", "string"),
  20: one("allocateLoadBalancerNodePorts", "flag"),
  21: one("loadBalancerClass", "string"),
  22: one("internalTrafficPolicy", "string"),
  23: one("trafficDistribution", "string"),
};

/** By `apiVersion/kind`. */
const OBJECTS: Readonly<Record<string, Message>> = {
  "v1/Service": {
    1: one("metadata", METADATA),
    2: one("spec", SERVICE_SPEC),
  },
  "v1/Namespace": {
    1: one("metadata", METADATA),
    2: one("spec", { 1: many("finalizers", "string") }),
  },
  "authorization.k8s.io/v1/SelfSubjectAccessReview": {
    1: one("metadata", METADATA),
    2: one("spec", {
      1: one("resourceAttributes", {
        1: one("namespace", "string"),
        2: one("verb", "string"),
        3: one("group", "string"),
        4: one("version", "string"),
        5: one("resource", "string"),
        6: one("subresource", "string"),
        7: one("name", "string"),
      }),
      2: one("nonResourceAttributes", {
        1: one("path", "string"),
        2: one("verb", "string"),
      }),
    }),
  },
};

/** "k8s" and a zero byte stand before the envelope (runtime.Unknown). */
const MAGIC = [0x6b, 0x38, 0x73, 0x00];
const ENVELOPE: Message = {
  1: one("type", { 1: one("apiVersion", "string"), 2: one("kind", "string") }),
};
const RAW_FIELD = 2;

/**
 * Reads an object as its JSON would be.
 *
 * @throws {StatusError} 400, it can't be read, or is of another kind
 */
export function readProtobuf(bytes: Uint8Array): unknown {
  if (MAGIC.some((byte, index) => bytes[index] !== byte)) {
    throw badRequest("provided data does not appear to be a protobuf message");
  }
  const envelope = bytes.subarray(MAGIC.length);
  const { type } = readMessage(envelope, ENVELOPE) as {
    type?: { apiVersion?: string; kind?: string };
  };
  const message = OBJECTS[`${type?.apiVersion}/${type?.kind}`];
  if (message === undefined) {
    throw badRequest(
      `this server cannot read protobuf of kind "${type?.kind}" in version "${type?.apiVersion}": use JSON`,
    );
  }
  const raw = fieldsOf(envelope).find(({ number }) => number === RAW_FIELD);
  const content = raw?.value instanceof Uint8Array
    ? readMessage(raw.value, message)
    : {};
  return { ...type, ...content };
}

function readMessage(
  bytes: Uint8Array,
  message: Message,
): Record<string, unknown> {
  const result: Record<string, unknown> = {};
  for (const { number, value } of fieldsOf(bytes)) {
    const field = message[number];
    if (field === undefined) continue;
    const { name, type, repeated } = field;
    if (type === "map") {
      const entry = readMessage(bytesOf(value), MAP_ENTRY);
      const map = (result[name] ??= {}) as Record<string, unknown>;
      Object.defineProperty(map, String(entry.key ?? ""), {
        value: entry.value ?? "",
        enumerable: true,
        writable: true,
        configurable: true,
      });
      continue;
    }
    const read = readValue(value, type);
    if (repeated) ((result[name] ??= []) as unknown[]).push(read);
    else if (read !== "" && read !== undefined) result[name] = read;
  }
  return result;
}

const MAP_ENTRY: Message = {
  1: one("key", "string"),
  2: one("value", "string"),
};
const INT_OR_STRING: Message = {
  1: one("isString", "number"),
  2: one("number", "number"),
  3: one("text", "string"),
};

function readValue(value: bigint | Uint8Array, type: FieldType): unknown {
  switch (type) {
    case "string":
      return new TextDecoder().decode(bytesOf(value));
    case "number":
      return Number(value) || undefined;
    case "pointer":
      return Number(value);
    case "boolean":
      return Number(value) !== 0 || undefined;
    case "flag":
      return Number(value) !== 0;
    case "intOrString": {
      const { isString, number, text } = readMessage(
        bytesOf(value),
        INT_OR_STRING,
      );
      return isString ? text : number;
    }
    case "map":
      return undefined;
    default: {
      const object = readMessage(bytesOf(value), type);
      return Object.keys(object).length === 0 ? undefined : object;
    }
  }
}

function bytesOf(value: bigint | Uint8Array): Uint8Array {
  if (value instanceof Uint8Array) return value;
  throw malformed();
}

/** The wire format: numbers as varints, all else as bytes. */
function fieldsOf(
  bytes: Uint8Array,
): { number: number; value: bigint | Uint8Array }[] {
  const fields: { number: number; value: bigint | Uint8Array }[] = [];
  let offset = 0;
  const varint = () => {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = bytes[offset++];
      if (byte === undefined) throw malformed();
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asIntN(64, value);
    }
    throw malformed();
  };
  while (offset < bytes.length) {
    const tag = Number(varint());
    const number = Math.floor(tag / 8);
    if (tag % 8 === 0) {
      fields.push({ number, value: varint() });
      continue;
    }
    const length = tag % 8 === 2 ? Number(varint()) : -1;
    if (length < 0 || offset + length > bytes.length) throw malformed();
    fields.push({ number, value: bytes.subarray(offset, offset + length) });
    offset += length;
  }
  return fields;
}

function malformed() {
  return badRequest("the body of the request cannot be read: bad protobuf");
}
