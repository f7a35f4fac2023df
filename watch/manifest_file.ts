/**
 * The text of one manifest file → the objects in it, as an API server would
 * have them: in the namespace `default` unless they say otherwise, with a
 * resourceVersion that changes whenever the object does. Opens no file.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { DecodeError, decodeNode } from "./decode.ts";
import { type Fields, isFields } from "./field_reader.ts";
import { ENDPOINT_SLICES, type Resource, SERVICES } from "./resource.ts";
import {
  type ClusterObject,
  type EndpointSlice,
  type Node,
  type ObjectKey,
  objectKey,
  type Service,
} from "./types.ts";
import { yamlDocuments } from "./yaml_documents.ts";

/** An object and where it is written, as `web.yaml:12`. */
export interface Written<T extends ClusterObject> {
  readonly object: T;
  readonly place: string;
}

export interface ManifestFile {
  /** Some document is not even YAML: what else is here may be half of the file. */
  readonly broken: boolean;
  readonly objects: readonly Written<ClusterObject>[];
  /** Kind and key of what is there but cannot be read. */
  readonly unreadable: readonly {
    readonly kind: ClusterObject["kind"];
    readonly key: ObjectKey;
  }[];
  /** For the log, each beginning with its place. */
  readonly problems: readonly string[];
  /** Places and kinds that no proxy reads. */
  readonly ignored: readonly string[];
}

type Kind = Pick<
  Resource<ClusterObject>,
  "kind" | "apiVersion" | "decode" | "selects"
>;

/** Any Node: which one is ours is for the reader of the stream to say. */
const NODES: Kind = {
  kind: "Node",
  apiVersion: "v1",
  decode: decodeNode,
  selects: () => true,
};
const KINDS: readonly Kind[] = [
  asKind(SERVICES),
  asKind(ENDPOINT_SLICES),
  NODES,
];

/** Reads a file's text; never throws. */
export function readManifestFile(name: string, text: string): ManifestFile {
  const reading = new Reading();
  for (const document of yamlDocuments(text)) {
    const place = `${name}:${document.line}`;
    if (document.error !== undefined) {
      reading.broken = true;
      const line = /\((\d+):\d+\)/.exec(document.error)?.[1] ?? document.line;
      reading.problems.push(
        `${name}:${line}: Cannot read YAML: ${document.error}`,
      );
    } else {
      reading.take(document.value, place);
    }
  }
  return reading;
}

class Reading implements ManifestFile {
  broken = false;
  readonly objects: Written<ClusterObject>[] = [];
  readonly unreadable: { kind: ClusterObject["kind"]; key: ObjectKey }[] = [];
  readonly problems: string[] = [];
  readonly ignored: string[] = [];

  take(value: unknown, place: string): void {
    if (!isFields(value)) {
      this.problems.push(`${place}: Skipping a document that is no object`);
      return;
    }
    const { apiVersion, kind, items } = value;
    const listOf = listedKind(kind);
    if (listOf !== undefined && Array.isArray(items)) {
      // Items of a ServiceList do not repeat what they are; those of a List do.
      const type = listOf === "" ? {} : { apiVersion, kind: listOf };
      for (const item of items) {
        this.take(isFields(item) ? { ...type, ...item } : item, place);
      }
      return;
    }
    const known = KINDS.find((known) =>
      known.kind === kind && known.apiVersion === apiVersion
    );
    if (known === undefined) {
      this.ignored.push(`${place}: ${String(kind)} (${String(apiVersion)})`);
    } else {
      this.#decode(known, value, place);
    }
  }

  #decode(known: Kind, value: Fields, place: string): void {
    try {
      const object = known.decode(completed(known, value));
      const wrong = wrongAddresses(object);
      this.problems.push(...wrong.map((text) => `${place}: ${text}`));
      if (object.kind === "Service" && wrong.length > 0) {
        const key = objectKey(object.metadata);
        this.unreadable.push({ kind: known.kind, key });
      } else if (object.kind === "Service" && !isAddressed(object)) {
        const key = objectKey(object.metadata);
        this.problems.push(
          `${place}: Skipping Service ${key}: it has no clusterIP, and there is no API server to give it one`,
        );
      } else if (known.selects(object)) {
        this.objects.push({ object, place });
      }
    } catch (error) {
      if (!(error instanceof DecodeError)) throw error;
      this.problems.push(`${place}: ${error.message}`);
      if (error.key === undefined) return;
      this.unreadable.push({ kind: known.kind, key: error.key });
    }
  }
}

/** What a list of this kind holds: empty for any; undefined if it is no list. */
function listedKind(kind: unknown): string | undefined {
  return typeof kind === "string" && kind.endsWith("List")
    ? kind.slice(0, -"List".length)
    : undefined;
}

function completed(known: Kind, value: Fields): Fields {
  const metadata = isFields(value.metadata) ? value.metadata : {};
  const namespace = known.kind === "Node"
    ? ""
    : metadata.namespace || "default";
  // What the file may say is the version of some cluster, and stays the same
  // when the file is edited.
  const resourceVersion = createHash("sha256").update(JSON.stringify(value))
    .digest("hex").slice(0, 16);
  return { ...value, metadata: { ...metadata, namespace, resourceVersion } };
}

function isAddressed({ spec }: Service): boolean {
  return spec.clusterIP !== "" || spec.type === "ExternalName";
}

/**
 * An API server would refuse these objects, and nothing after us would say a
 * word: what is no address is served nowhere.
 */
function wrongAddresses(object: ClusterObject): string[] {
  const { kind, metadata } = object;
  const name = `${kind} ${objectKey(metadata)}`;
  if (kind === "Service") {
    return (object as Service).spec.clusterIPs
      .filter((ip) => ip !== "None" && !isAddress(ip))
      .map((ip) =>
        `Cannot read ${name}: spec.clusterIP is "${ip}", want an IP address`
      );
  }
  if (kind !== "EndpointSlice") return [];
  const { addressType, endpoints } = object as EndpointSlice;
  return addressType === "FQDN"
    ? []
    : endpoints.flatMap(({ addresses }) => addresses)
      .filter((ip) => !isAddress(ip))
      .map((ip) => `No endpoint of ${name}: "${ip}" is no IP address`);
}

/** As sloppy as Kubernetes: leading zeros are decimal. */
function isAddress(text: string): boolean {
  return !text.includes("%") && isIP(text.replaceAll(/\b0+(?=\d)/g, "")) !== 0;
}

function asKind<T extends Service | EndpointSlice | Node>(
  resource: Resource<T>,
): Kind {
  return {
    ...resource,
    selects: (object) =>
      object.kind === resource.kind && resource.selects(object as T),
  };
}
