/**
 * The embedded API server: enough of the Kubernetes REST API for kubectl and
 * for a kube-proxy, in memory, on loopback, without users or rights. For
 * development and for tests; it is no API server for a cluster.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { DeleteOptions } from "./object_meta.ts";
import type { PatchType } from "./patching.ts";
import { serve } from "../http/server.ts";
import { checkAccess } from "./access.ts";
import { endpointSlices } from "./endpoint_slices.ts";
import { events } from "./events.ts";
import { Faults, FaultyResponse, type LoggedRequest } from "./faults.ts";
import { FIXED_NAMESPACES, namespaces } from "./namespaces.ts";
import { nodes } from "./nodes.ts";
import { pods } from "./pods.ts";
import { type ObjectName, Registry, type WriteOptions } from "./registry.ts";
import type { KubeObject, ResourceDefinition } from "./resource.ts";
import { record, text } from "./resource.ts";
import { apiRoutes, errorResponse } from "./routes.ts";
import { type PortRange, ServiceAddresses } from "./service_addresses.ts";
import { serviceCIDRs } from "./service_cidrs.ts";
import { services } from "./services.ts";
import { pathNotFound, StatusError } from "./status.ts";
import { Store } from "./store.ts";
import { Watches } from "./watches.ts";

const logger = getLogger("watch");

/** For the ends of watches to be written, before connections are cut. */
const LAST_EVENTS_MS = 500;

/** At a time: informers of a test's hundred proxies, and some more. */
const CONNECTIONS = 1_024;

export interface ApiServerOptions {
  /** ClusterIPs come from here: one, or one of each family. 10.96.0.0/16. */
  serviceCIDRs?: readonly string[];
  /**
   * Resource versions are greater. A server that follows another one on its
   * address, and knows nothing of that one's objects, needs a number that the
   * other has not reached: then it tells clients who go on watching that they
   * have to list again, while it would let them wait for versions to come.
   */
  firstRevision?: number;
  /** 30000 to 32767. */
  nodePorts?: PortRange;
  /** Changes kept for watches that begin in the past. 10,000. */
  historyLimit?: number;
  /** Milliseconds between two bookmarks of a watch. A minute. */
  bookmarkIntervalMs?: number;
  /** Host names by which it is reached beside loopback and where it listens. */
  hosts?: readonly string[];
  /** Milliseconds since 1970. */
  now?: () => number;
}

export interface ListenOptions {
  /** 127.0.0.1 */
  hostname?: string;
  /** 0: one that is free. */
  port?: number;
}

/** A socket of the server. Closing it cuts the connections. */
export interface Listening extends AsyncDisposable {
  /** `http://127.0.0.1:8001` */
  readonly url: string;
  readonly hostname: string;
  readonly port: number;
  close(): Promise<void>;
}

/** Resources by their plural: `services`, `endpointslices`, `nodes` … */
export interface ApiServer extends AsyncDisposable {
  /** Answers a request without a socket. Never rejects. */
  fetch(request: Request): Promise<Response>;
  /** @throws {Deno.errors.AddrInUse} and what else `Deno.listen` throws */
  listen(options?: ListenOptions): Promise<Listening>;
  /** @throws {StatusError} 404 */
  get(resource: string, name: ObjectName): KubeObject;
  /** All of them, by namespace and name. */
  list(resource: string): readonly KubeObject[];
  /**
   * Stores a copy of an object; its namespace is in its metadata.
   *
   * @throws {StatusError} 400, 409 or 422, as over HTTP
   */
  create(resource: string, object: unknown): KubeObject;
  /**
   * Replaces the object that has the same name.
   *
   * @throws {StatusError} 400, 404, 409 or 422
   */
  update(
    resource: string,
    object: unknown,
    options?: WriteOptions,
  ): KubeObject;
  /** @throws {StatusError} 400, 404, 409 or 422 */
  patch(
    resource: string,
    name: ObjectName,
    patch: unknown,
    options?: WriteOptions & { type?: PatchType },
  ): KubeObject;
  /** @throws {StatusError} 403, 404 or 409 */
  delete(resource: string, name: ObjectName, options?: DeleteOptions): void;
  /** The latest resourceVersion. */
  readonly resourceVersion: string;
  /** How many watches are open. */
  readonly openWatches: number;
  /** Every request so far (the latest ones, after many). */
  readonly requests: readonly LoggedRequest[];
  readonly faults: Faults;
}

/**
 * Makes a server that has the Service `default/kubernetes`, two namespaces and
 * the ServiceCIDR `kubernetes`, and listens nowhere yet.
 *
 * @throws {RangeError} the Service CIDRs can't be used
 */
export function createApiServer(options: ApiServerOptions = {}): ApiServer {
  return new EmbeddedServer(options);
}

class EmbeddedServer implements ApiServer {
  readonly faults: Faults;
  readonly #store: Store;
  readonly #registry: Registry;
  readonly #watches: Watches;
  readonly #addresses: ServiceAddresses;
  readonly #definitions: readonly ResourceDefinition[];
  readonly #app: ReturnType<typeof apiRoutes>;
  readonly #hosts: Set<string>;
  readonly #listening = new Set<Listening>();
  readonly #now: () => number;

  constructor(options: ApiServerOptions) {
    const cidrs = options.serviceCIDRs ?? ["10.96.0.0/16"];
    const now = options.now ?? Date.now;
    this.#now = now;
    this.#hosts = new Set(options.hosts);
    this.#store = new Store({
      historyLimit: options.historyLimit ?? 10_000,
      firstRevision: options.firstRevision,
    });
    this.#addresses = new ServiceAddresses(
      cidrs,
      options.nodePorts ?? { first: 30000, last: 32767 },
    );
    this.#definitions = [
      services(this.#addresses),
      endpointSlices,
      nodes,
      pods,
      namespaces,
      events,
      serviceCIDRs,
    ];
    this.#registry = new Registry(this.#store, namespaces, { now });
    this.#watches = new Watches(this.#store, {
      now,
      bookmarkIntervalMs: options.bookmarkIntervalMs ?? 60_000,
    });
    this.faults = new Faults(this.#store, this.#watches, () => {
      this.#addresses.reset(this.#store.list("services"));
    });
    this.#app = apiRoutes({
      definitions: this.#definitions,
      store: this.#store,
      registry: this.#registry,
      watches: this.#watches,
      faults: this.faults,
      now,
      remove: (...call) => this.#remove(...call),
    });
    // Hono's own answer to an error would not be a Status.
    this.#app.onError((error) => {
      throw error;
    });
    this.#furnish(cidrs);
  }

  #furnish(cidrs: readonly string[]): void {
    for (const name of FIXED_NAMESPACES) {
      this.create("namespaces", { metadata: { name } });
    }
    this.create("servicecidrs", {
      metadata: { name: "kubernetes" },
      spec: { cidrs },
      status: { conditions: [{ type: "Ready", status: "True" }] },
    });
    this.#createOwnService();
  }

  /** As the real server's controller, which also brings it back. */
  #createOwnService(): void {
    this.create("services", {
      metadata: {
        name: "kubernetes",
        labels: { component: "apiserver", provider: "kubernetes" },
      },
      spec: {
        clusterIP: this.#addresses.firstAddress,
        ports: [{ name: "https", port: 443, targetPort: 6443 }],
      },
    });
  }

  async fetch(request: Request): Promise<Response> {
    try {
      const { pathname, search } = new URL(request.url);
      checkAccess(request, this.#hosts);
      this.faults.admit(
        { method: request.method, url: pathname + search },
        request.headers.get("authorization"),
      );
      return await this.#app.fetch(request);
    } catch (error) {
      await request.body?.cancel().catch(() => {});
      return answerTo(error);
    }
  }

  async listen(
    { hostname = "127.0.0.1", port = 0 }: ListenOptions = {},
  ): Promise<Listening> {
    const server = await serve(
      { ip: hostname, port },
      (request) => this.fetch(request),
      { connections: CONNECTIONS },
    );
    const { addr } = server;
    this.#hosts.add(hostname.toLowerCase());
    const watches = this.#watches;
    const listening: Listening = {
      url: `http://${
        hostname.includes(":") ? `[${hostname}]` : hostname
      }:${addr.port}`,
      hostname,
      port: addr.port,
      close: async () => {
        this.#listening.delete(listening);
        // They end as a real server's do; everything else is cut.
        watches.end();
        await server.shutdown(LAST_EVENTS_MS);
      },
      [Symbol.asyncDispose]: () => listening.close(),
    };
    this.#listening.add(listening);
    return listening;
  }

  get(resource: string, name: ObjectName): KubeObject {
    const definition = this.#definition(resource);
    return this.#registry.get(definition, this.#named(definition, name));
  }

  list(resource: string): readonly KubeObject[] {
    return this.#store.list(this.#definition(resource).plural);
  }

  create(resource: string, object: unknown): KubeObject {
    const definition = this.#definition(resource);
    return this.#registry.create(definition, object, { namespace: "" });
  }

  update(
    resource: string,
    object: unknown,
    options: WriteOptions = {},
  ): KubeObject {
    const definition = this.#definition(resource);
    const { name, namespace } = record(record(object).metadata);
    return this.#registry.update(
      definition,
      this.#named(definition, {
        name: text(name),
        namespace: text(namespace),
      }),
      object,
      options,
    ).object;
  }

  patch(
    resource: string,
    name: ObjectName,
    patch: unknown,
    options: WriteOptions & { type?: PatchType } = {},
  ): KubeObject {
    const definition = this.#definition(resource);
    return this.#registry.patch(
      definition,
      this.#named(definition, name),
      patch,
      { type: "merge", ...options },
    ).object;
  }

  delete(
    resource: string,
    name: ObjectName,
    options: DeleteOptions = {},
  ): void {
    const definition = this.#definition(resource);
    this.#remove(definition, this.#named(definition, name), options);
  }

  get resourceVersion(): string {
    return String(this.#store.revision);
  }

  get openWatches(): number {
    return this.#watches.size;
  }

  get requests(): readonly LoggedRequest[] {
    return this.faults.requests;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const listening of [...this.#listening]) await listening.close();
    this.#watches.end();
  }

  #definition(resource: string): ResourceDefinition {
    const found = this.#definitions.find(({ plural }) => plural === resource);
    if (found === undefined) throw pathNotFound();
    return found;
  }

  #named({ namespaced }: ResourceDefinition, name: ObjectName): ObjectName {
    return {
      namespace: namespaced ? name.namespace || "default" : "",
      name: name.name,
    };
  }

  /** A namespace takes its objects along. */
  #remove(
    definition: ResourceDefinition,
    name: ObjectName,
    options: DeleteOptions = {},
  ) {
    const result = this.#registry.delete(definition, name, options);
    if (definition === namespaces && result.gone && !options.dryRun) {
      for (const inside of this.#definitions) {
        if (!inside.namespaced) continue;
        for (const { metadata } of this.list(inside.plural)) {
          if (metadata.namespace !== name.name) continue;
          this.#registry.delete(inside, {
            namespace: name.name,
            name: metadata.name,
          });
        }
      }
    }
    const isOwn = definition.plural === "services" &&
      name.namespace === "default" && name.name === "kubernetes";
    if (isOwn && result.gone && !options.dryRun) this.#createOwnService();
    return result;
  }
}

function answerTo(error: unknown): Response {
  if (error instanceof FaultyResponse && error.answer.body !== undefined) {
    const { status, headers = {}, body } = error.answer;
    return new Response(body, { status, headers: { ...headers } });
  }
  const response = errorResponse(error);
  if (response !== undefined) return response;
  logger.error("The embedded API server failed", { cause: error });
  const message = error instanceof Error ? error.message : String(error);
  return errorResponse(
    new StatusError(500, `Internal error occurred: ${message}`, {
      reason: "InternalError",
    }),
  )!;
}
