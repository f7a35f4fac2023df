/**
 * Objects as a user writes them into a manifest: what the API server fills in
 * is left out.
 *
 * @module
 */
import { stringify } from "@std/yaml";

export type KubeObject = {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: {
    readonly name: string;
    readonly labels?: Readonly<Record<string, string>>;
    readonly creationTimestamp?: string;
  };
  readonly [field: string]: unknown;
};

/** Port name → number. */
export type Ports = Readonly<Record<string, number>>;

/** A Service `default/NAME`. */
export function kubeService(
  name: string,
  clusterIP: string,
  ports: Ports,
): KubeObject {
  return {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name },
    spec: {
      clusterIP,
      ports: Object.entries(ports).map(([name, port]) => ({ name, port })),
    },
  };
}

/**
 * The only slice of a Service, `NAME-1`, with one endpoint for each address.
 *
 * @param nodeName where they all are; missing: nobody says
 */
export function kubeSlice(
  service: string,
  addresses: readonly string[],
  ports: Ports,
  nodeName?: string,
): KubeObject {
  return {
    apiVersion: "discovery.k8s.io/v1",
    kind: "EndpointSlice",
    metadata: {
      name: `${service}-1`,
      labels: { "kubernetes.io/service-name": service },
    },
    addressType: addresses[0]?.includes(":") ? "IPv6" : "IPv4",
    ports: Object.entries(ports).map(([name, port]) => ({ name, port })),
    endpoints: addresses.map((address) => ({
      addresses: [address],
      conditions: { ready: true },
      ...(nodeName === undefined ? {} : { nodeName }),
    })),
  };
}

export function kubeNode(name: string): KubeObject {
  return { apiVersion: "v1", kind: "Node", metadata: { name }, spec: {} };
}

/** The text of a file with these objects, a document each. */
export function manifest(...objects: readonly KubeObject[]): string {
  return objects.map((object) => stringify(object)).join("---\n");
}

const COLLECTIONS: Readonly<Record<string, string>> = {
  Service: "/api/v1/namespaces/default/services",
  EndpointSlice: "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
  Node: "/api/v1/nodes",
};

/** Writes to an API server as its users do: over HTTP, without a password. */
export class KubeWriter {
  constructor(readonly server: string) {}

  async create(...objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) {
      await this.#send("POST", collectionOf(object), object);
    }
  }

  /** Whatever is there is overwritten. */
  async replace(...objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) {
      await this.#send("PATCH", pathOf(object), object);
    }
  }

  async delete(...objects: readonly KubeObject[]): Promise<void> {
    for (const object of objects) await this.#send("DELETE", pathOf(object));
  }

  async #send(method: string, path: string, body?: KubeObject): Promise<void> {
    using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
    const response = await fetch(`${this.server}${path}`, {
      client,
      method,
      headers: {
        "Content-Type": method === "PATCH"
          // Replaces lists as a whole, unlike the strategic kind.
          ? "application/merge-patch+json"
          : "application/json",
      },
      body: body === undefined ? null : JSON.stringify(body),
    });
    const answer = await response.text();
    if (!response.ok) {
      throw new Error(`${method} ${path}: ${response.status} ${answer}`);
    }
  }
}

/** Where objects of this kind are made. */
export function collectionOf({ kind }: KubeObject): string {
  const path = COLLECTIONS[kind];
  if (path === undefined) throw new RangeError(`No collection of ${kind}`);
  return path;
}

export function pathOf(object: KubeObject): string {
  return `${collectionOf(object)}/${object.metadata.name}`;
}
