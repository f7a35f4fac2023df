/**
 * HTTP: which request is which operation on which resource, what its body and
 * query mean, and how the result is written. The rules of the operations are
 * in `registry.ts`, `paging.ts` and `watches.ts`.
 *
 * @module
 */
import type { DeleteOptions } from "./object_meta.ts";
import type { PatchType } from "./patching.ts";
import { parse, stringify } from "@std/yaml";
import { type Context, Hono } from "hono";
import { readBody } from "./access.ts";
import { discoveryRoutes, pathOf } from "./discovery.ts";
import type { Faults } from "./faults.ts";
import { listPage } from "./paging.ts";
import { PROTOBUF_TYPE, readProtobuf } from "./protobuf.ts";
import type { ObjectName, Registry, WriteOptions } from "./registry.ts";
import { listOf, oneOf, representationOf } from "./representation.ts";
import {
  apiVersion,
  type KubeObject,
  record,
  type ResourceDefinition,
  text,
} from "./resource.ts";
import {
  badRequest,
  methodNotAllowed,
  pathNotFound,
  StatusError,
  unsupportedMediaType,
} from "./status.ts";
import type { Store } from "./store.ts";
import type { Watches } from "./watches.ts";

export interface Backend {
  readonly definitions: readonly ResourceDefinition[];
  readonly store: Store;
  readonly registry: Registry;
  readonly watches: Watches;
  readonly faults: Faults;
  /** Milliseconds since 1970. */
  readonly now: () => number;
  /** Deletes the object, and what it takes along. */
  readonly remove: Registry["delete"];
}

const PATCH_TYPES: Readonly<Record<string, PatchType>> = {
  "application/json-patch+json": "json",
  "application/merge-patch+json": "merge",
  "application/strategic-merge-patch+json": "strategic",
  "application/apply-patch+yaml": "apply",
};

/** All routes of the server. Errors are thrown: see `errorResponse`. */
export function apiRoutes(backend: Backend): Hono {
  const app = new Hono();
  app.route("/", discoveryRoutes(backend.definitions));
  app.post(
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    async (context) => {
      const review = record(await bodyOf(context));
      const answer = { ...review, status: { allowed: true } };
      return write(context, answer, 201);
    },
  );
  for (const definition of backend.definitions) {
    resourceRoutes(app, definition, backend);
  }
  app.notFound(() => {
    throw pathNotFound();
  });
  return app;
}

function resourceRoutes(
  app: Hono,
  definition: ResourceDefinition,
  backend: Backend,
): void {
  const base = pathOf(apiVersion(definition));
  const { plural, namespaced } = definition;
  const collection = namespaced
    ? `${base}/namespaces/:namespace/${plural}`
    : `${base}/${plural}`;
  const handlers = new Handlers(definition, backend);
  const can = (verb: string) => definition.verbs.includes(verb);
  app.get(collection, (context) => handlers.list(context));
  if (namespaced) {
    app.get(`${base}/${plural}`, (context) => handlers.list(context));
  }
  app.get(`${collection}/:name`, (context) => handlers.get(context));
  if (can("create")) {
    app.post(collection, (context) => handlers.create(context));
  }
  if (can("deletecollection")) {
    app.delete(collection, (context) => handlers.deleteAll(context));
  }
  const paths = [`${collection}/:name`];
  if (definition.hasStatus) {
    paths.push(`${collection}/:name/status`);
    app.get(`${collection}/:name/status`, (context) => handlers.get(context));
  }
  for (const path of paths) {
    const sub = path.endsWith("/status") ? "status" : undefined;
    if (can("update")) {
      app.put(path, (context) => handlers.update(context, sub));
    }
    if (can("patch")) {
      app.patch(path, (context) => handlers.patch(context, sub));
    }
  }
  if (can("delete")) {
    app.delete(`${collection}/:name`, (context) => handlers.delete(context));
  }
  for (const path of [collection, `${base}/${plural}`, ...paths]) {
    app.all(path, () => {
      throw methodNotAllowed();
    });
  }
}

class Handlers {
  constructor(
    readonly definition: ResourceDefinition,
    readonly backend: Backend,
  ) {}

  async list(context: Context): Promise<Response> {
    const query = queryOf(context);
    const form = formOf(context);
    const namespace = context.req.param("namespace") ?? "";
    if (isTrue(query.get("watch"))) return await this.#watch(context);
    const { store, now } = this.backend;
    const page = listPage(store, this.definition, { namespace, query });
    const { metadata } = page;
    const options = { metadata, nowMs: now() };
    return write(
      context,
      listOf(page.objects, this.definition, form, options),
    );
  }

  async #watch(context: Context): Promise<Response> {
    const { watches, faults } = this.backend;
    if (faults.watchMode === "refuse") throw methodNotAllowed();
    const stream = watches.open(this.definition, {
      namespace: context.req.param("namespace") ?? "",
      query: queryOf(context),
      form: formOf(context),
    });
    const buffered = faults.watchMode === "buffer";
    // Compressed, events would wait in the compressor for the next one.
    const headers = {
      "Content-Type": "application/json",
      "Cache-Control": "no-cache, private, no-transform",
    };
    return buffered
      ? new Response(await new Response(stream).arrayBuffer(), { headers })
      : new Response(stream, { headers });
  }

  get(context: Context): Response {
    const form = formOf(context);
    const { registry, now } = this.backend;
    const object = registry.get(this.definition, this.#name(context));
    return write(context, oneOf(object, this.definition, form, now()));
  }

  async create(context: Context): Promise<Response> {
    const { options, warnings } = writeOptions(context);
    const body = await bodyOf(context);
    const namespace = context.req.param("namespace") ?? "";
    const object = this.backend.registry.create(this.definition, body, {
      ...options,
      namespace,
    });
    return this.#written(context, object, 201, warnings);
  }

  async update(context: Context, sub?: "status"): Promise<Response> {
    const { options, warnings } = writeOptions(context, sub);
    const body = await bodyOf(context);
    const name = this.#name(context);
    const { object, created } = this.backend.registry.update(
      this.definition,
      name,
      body,
      options,
    );
    return this.#written(context, object, created ? 201 : 200, warnings);
  }

  async patch(context: Context, sub?: "status"): Promise<Response> {
    const type = PATCH_TYPES[contentType(context)];
    if (type === undefined) {
      throw unsupportedMediaType(Object.keys(PATCH_TYPES));
    }
    const { options, warnings } = writeOptions(context, sub);
    const body = parsed(await readBody(context.req.raw), type === "apply");
    const { object, created } = this.backend.registry.patch(
      this.definition,
      this.#name(context),
      body,
      { ...options, type },
    );
    return this.#written(context, object, created ? 201 : 200, warnings);
  }

  async delete(context: Context): Promise<Response> {
    const options = await deleteOptions(context);
    const form = formOf(context);
    const { definition, backend } = this;
    const name = this.#name(context);
    const { object, gone } = backend.remove(definition, name, options);
    if (!gone || definition.returnsDeleted) {
      return write(context, oneOf(object, definition, form, backend.now()));
    }
    return write(context, {
      kind: "Status",
      apiVersion: "v1",
      metadata: {},
      status: "Success",
      details: {
        name: name.name,
        ...(definition.group === "" ? {} : { group: definition.group }),
        kind: definition.plural,
        uid: object.metadata.uid,
      },
    });
  }

  async deleteAll(context: Context): Promise<Response> {
    const options = await deleteOptions(context);
    const query = queryOf(context);
    const form = formOf(context);
    const { definition, backend } = this;
    const namespace = context.req.param("namespace") ?? "";
    const { objects } = listPage(backend.store, definition, {
      namespace,
      query,
    });
    const deleted = objects.map(({ metadata }) =>
      backend.remove(definition, {
        namespace: metadata.namespace ?? "",
        name: metadata.name,
      }, options).object
    );
    const metadata = { resourceVersion: String(backend.store.revision) };
    const listOptions = { metadata, nowMs: backend.now() };
    return write(context, listOf(deleted, definition, form, listOptions));
  }

  #name(context: Context): ObjectName {
    return {
      namespace: context.req.param("namespace") ?? "",
      name: context.req.param("name") ?? "",
    };
  }

  #written(
    context: Context,
    object: KubeObject,
    status: 200 | 201,
    warnings: readonly string[],
  ): Response {
    const form = formOf(context);
    const shown = oneOf(object, this.definition, form, this.backend.now());
    const response = write(context, shown, status);
    for (const warning of warnings) {
      const quoted = warning.replace(/["\\]/g, "\\$&");
      response.headers.append("Warning", `299 - "${quoted}"`);
    }
    return response;
  }
}

/** An error as the answer it stands for; `undefined`: it is none of ours. */
export function errorResponse(error: unknown): Response | undefined {
  if (!(error instanceof StatusError)) return undefined;
  return new Response(JSON.stringify(error.body), {
    status: error.code,
    headers: {
      "Content-Type": "application/json",
      ...HEADERS,
      ...error.headers,
    },
  });
}

const HEADERS = { "Cache-Control": "no-cache, private" };

function write(context: Context, value: unknown, status = 200): Response {
  const { format } = formOf(context);
  const agent = context.req.header("user-agent") ?? "";
  const pretty = queryOf(context).get("pretty") ??
    /^(curl|Wget|Mozilla)\//.test(agent);
  const body = format === "yaml"
    ? stringify(value)
    : pretty === true || pretty === "true" || pretty === "1"
    ? JSON.stringify(value, undefined, 2)
    : JSON.stringify(value);
  return new Response(body, {
    status,
    headers: { "Content-Type": `application/${format}`, ...HEADERS },
  });
}

function queryOf(context: Context): URLSearchParams {
  return new URL(context.req.url).searchParams;
}

function formOf(context: Context) {
  return representationOf(context.req.header("accept") ?? "", queryOf(context));
}

function contentType(context: Context): string {
  const header = context.req.header("content-type") ?? "application/json";
  return (header.split(";")[0] ?? "").trim().toLowerCase();
}

async function bodyOf(context: Context): Promise<unknown> {
  const type = contentType(context);
  const types = ["application/json", "application/yaml", PROTOBUF_TYPE];
  if (!types.includes(type)) throw unsupportedMediaType(types);
  const body = await readBody(context.req.raw);
  if (type === PROTOBUF_TYPE) return readProtobuf(body);
  return parsed(body, type === "application/yaml");
}

/** @throws {StatusError} 400 */
function parsed(body: Uint8Array, isYAML: boolean): unknown {
  const text = new TextDecoder().decode(body);
  try {
    return isYAML && !text.trimStart().startsWith("{")
      ? parse(text)
      : JSON.parse(text);
  } catch (error) {
    const [why] = (error as Error).message.split("\n");
    throw badRequest(`the body of the request cannot be read: ${why}`);
  }
}

function writeOptions(context: Context, subresource?: "status") {
  const query = queryOf(context);
  const warnings: string[] = [];
  const validation = query.get("fieldValidation") ?? "";
  if (!["", "Ignore", "Warn", "Strict"].includes(validation)) {
    throw badRequest(
      `invalid fieldValidation: ${validation}: supported values are Ignore, Warn, Strict`,
    );
  }
  const options: WriteOptions = {
    dryRun: isDryRun(query.getAll("dryRun")),
    fieldValidation: (validation || "Warn") as "Warn",
    fieldManager: query.get("fieldManager") ?? "",
    warn: (warning) => warnings.push(warning),
    ...(subresource === undefined ? {} : { subresource }),
  };
  return { options, warnings };
}

async function deleteOptions(context: Context): Promise<DeleteOptions> {
  const body = await readBody(context.req.raw);
  const given = body.length === 0 ? {} : record(parsed(body, false));
  const { uid, resourceVersion } = record(given.preconditions);
  const dryRun = queryOf(context).getAll("dryRun");
  if (Array.isArray(given.dryRun)) dryRun.push(...given.dryRun.map(String));
  return {
    dryRun: isDryRun(dryRun),
    preconditions: {
      ...(text(uid) === "" ? {} : { uid: text(uid) }),
      ...(text(resourceVersion) === ""
        ? {}
        : { resourceVersion: text(resourceVersion) }),
    },
  };
}

function isDryRun(values: readonly string[]): boolean {
  for (const value of values) {
    if (value !== "All" && value !== "") {
      throw badRequest(
        `dryRun: Unsupported value: "${value}": supported values: "All"`,
      );
    }
  }
  return values.includes("All");
}

function isTrue(value: string | null): boolean {
  return value !== null && ["", "1", "t", "true"].includes(value.toLowerCase());
}
