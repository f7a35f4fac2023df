/**
 * Manifests on disk into the server: what `kubectl apply -f DIR` would do at
 * its start. Files are read in the order of their names; what can't be read or
 * stored is told, and does not keep the rest out.
 *
 * @module
 */
import { yamlDocuments } from "../yaml_documents.ts";
import { record, text } from "./resource.ts";
import { isRecord } from "./schema.ts";
import type { ApiServer } from "./server.ts";
import { StatusError } from "./status.ts";

/** One thing that could not be loaded, in one line. */
export interface ManifestProblem {
  readonly file: string;
  /** Of the document it is in; 0 where the file itself is the problem. */
  readonly line: number;
  /** `Cannot load "web.yaml" line 3: …` */
  readonly message: string;
}

export interface LoadedManifests {
  /** How many objects were stored. */
  readonly count: number;
  readonly problems: readonly ManifestProblem[];
}

const RESOURCES: Readonly<Record<string, string>> = {
  "v1/Service": "services",
  "v1/Node": "nodes",
  "v1/Namespace": "namespaces",
  "v1/Event": "events",
  "discovery.k8s.io/v1/EndpointSlice": "endpointslices",
};

/**
 * Creates (or replaces, what is there already) every object in the `.yaml`,
 * `.yml` and `.json` files of a folder, not of those inside it.
 *
 * A status in a file is kept, unlike with kubectl: there is no cloud here to
 * give a LoadBalancer its address.
 *
 * @throws {Deno.errors.NotFound} and the like: the folder can't be read
 */
export async function loadManifests(
  server: ApiServer,
  dir: string,
): Promise<LoadedManifests> {
  const names: string[] = [];
  for await (const entry of Deno.readDir(dir)) {
    if (!entry.isDirectory && /\.(ya?ml|json)$/.test(entry.name)) {
      names.push(entry.name);
    }
  }
  const problems: ManifestProblem[] = [];
  let count = 0;
  for (const file of names.sort()) {
    const report = (line: number, why: string) => {
      const place = line === 0 ? "" : ` line ${line}`;
      const message = `Cannot load "${file}"${place}: ${why}`;
      problems.push({ file, line, message });
    };
    let text: string;
    try {
      text = await Deno.readTextFile(`${dir}/${file}`);
    } catch (error) {
      report(0, reasonOf(error));
      continue;
    }
    for (const document of yamlDocuments(text)) {
      if (document.error !== undefined) {
        report(document.line, document.error);
        continue;
      }
      for (const object of objectsOf(document.value)) {
        try {
          load(server, object);
          count++;
        } catch (error) {
          report(document.line, reasonOf(error));
        }
      }
    }
  }
  return { count, problems };
}

/** The object, or those of a List. */
function objectsOf(value: unknown): unknown[] {
  const { kind, items } = record(value);
  if (!text(kind).endsWith("List") || !Array.isArray(items)) return [value];
  // A typed list's items need not repeat what they are.
  const itemKind = text(kind).slice(0, -"List".length);
  if (itemKind === "") return items;
  const { apiVersion } = record(value);
  return items.map((item) =>
    isRecord(item) ? { apiVersion, kind: itemKind, ...item } : item
  );
}

function load(server: ApiServer, object: unknown): void {
  if (!isRecord(object)) throw new TypeError("it is not an object");
  const { kind, apiVersion } = object;
  if (text(kind) === "" || text(apiVersion) === "") {
    throw new TypeError("it has no kind or no apiVersion");
  }
  const resource = RESOURCES[`${text(apiVersion)}/${text(kind)}`];
  if (resource === undefined) {
    throw new TypeError(`this server has no "${kind}" in "${apiVersion}"`);
  }
  const metadata = { ...record(object.metadata) };
  // From `kubectl get -o yaml`: these belong to another server's object.
  for (const name of ["uid", "resourceVersion"]) delete metadata[name];
  const own = { ...object, metadata };
  let stored;
  try {
    stored = server.create(resource, own);
  } catch (error) {
    if (!(error instanceof StatusError) || error.code !== 409) throw error;
    stored = server.update(resource, own);
  }
  if (isRecord(object.status) && RESOURCES["v1/Event"] !== resource) {
    const { name, namespace = "" } = stored.metadata;
    const status = object.status;
    server.update(
      resource,
      { metadata: { name, namespace }, status },
      { subresource: "status" },
    );
  }
}

function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return message.replaceAll(/\s*\n\s*/g, " ");
}
