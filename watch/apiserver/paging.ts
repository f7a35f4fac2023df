/**
 * Lists in pieces: `limit` and `continue`, and what `resourceVersion` and
 * `resourceVersionMatch` mean for a list. The pages of one list are pages of
 * the same state, however much is written between them.
 *
 * @module
 */
import {
  type KubeObject,
  type ResourceDefinition,
  storeKey,
} from "./resource.ts";
import type { ListMetadata } from "./representation.ts";
import { selectorOf } from "./selectors.ts";
import {
  badRequest,
  expired,
  type FieldError,
  fieldError,
  invalid,
  StatusError,
} from "./status.ts";
import type { Store } from "./store.ts";

const EXPIRED_LIST = "The resourceVersion for the provided list is too old.";
const EXPIRED_TOKEN =
  "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/** Where a list goes on. `revision` -1: wherever the objects are by then. */
interface Token {
  readonly revision: number;
  readonly start: string;
}

export interface Page {
  readonly objects: readonly KubeObject[];
  readonly metadata: ListMetadata;
}

/**
 * The objects a GET of a collection asks for.
 *
 * @param namespace empty for all of them
 * @throws {StatusError} 400, 410, 422 or 504, as the real server
 */
export function listPage(
  store: Store,
  definition: ResourceDefinition,
  options: { namespace: string; query: URLSearchParams },
): Page {
  const { namespace, query } = options;
  checkListOptions(query, "list");
  const selector = selectorOf(query, definition);
  const limit = numberOf(query, "limit");
  const token = tokenOf(query.get("continue") ?? "");
  const wanted = token?.revision ?? exactRevision(store, query, limit);
  const all = wanted === undefined || wanted === -1
    ? store.list(definition.plural)
    : store.listAt(definition.plural, wanted);
  if (all === undefined) {
    throw token === undefined ? expired(EXPIRED_LIST) : expired(
      EXPIRED_TOKEN,
      { continue: encodeToken({ revision: -1, start: token.start }) },
    );
  }
  const revision = wanted === undefined || wanted === -1
    ? store.revision
    : wanted;
  const rest = token === undefined
    ? all
    : all.filter((object) => listKey(object) >= token.start);
  const matching = rest.filter((object) =>
    (namespace === "" || object.metadata.namespace === namespace) &&
    (selector === undefined || selector(object))
  );
  const metadata: ListMetadata = { resourceVersion: String(revision) };
  if (limit === 0 || matching.length <= limit) {
    return { objects: matching, metadata };
  }
  const objects = matching.slice(0, limit);
  const start = `${listKey(objects[objects.length - 1]!)}\0`;
  metadata.continue = encodeToken({ revision, start });
  if (selector === undefined) {
    metadata.remainingItemCount = matching.length - limit;
  }
  return { objects, metadata };
}

/** Where an object is in the order of a list: `/default/web`. */
function listKey(object: KubeObject): string {
  return `/${storeKey(object.metadata)}`;
}

/** The list of an earlier state, if that was asked for. */
function exactRevision(
  store: Store,
  query: URLSearchParams,
  limit: number,
): number | undefined {
  const revision = revisionOf(query);
  const match = query.get("resourceVersionMatch") ?? "";
  if (revision > store.revision) throw futureRevision(revision, store.revision);
  // Before there was a match, a limit asked for exactly that state.
  const exact = match === "Exact" || match === "" && limit > 0;
  return exact && revision > 0 ? revision : undefined;
}

function futureRevision(revision: number, current: number): StatusError {
  return new StatusError(
    504,
    `Too large resource version: ${revision}, current: ${current}`,
    {
      reason: "Timeout",
      details: {
        causes: [{
          reason: "ResourceVersionTooLarge",
          message: "Too large resource version",
        }],
        retryAfterSeconds: 1,
      },
      headers: { "Retry-After": "1" },
    },
  );
}

/**
 * The query's resourceVersion; 0 where it has none.
 *
 * @throws {StatusError} 500 without a reason, as the real server's watch; a
 *   list's error is the caller's
 */
export function revisionOf(query: URLSearchParams): number {
  const text = query.get("resourceVersion") ?? "";
  if (text === "") return 0;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new StatusError(
    500,
    `resourceVersion: Invalid value: "${text}": strconv.ParseUint: parsing "${text}": invalid syntax`,
  );
}

const LIST_OPTIONS = {
  group: "meta.k8s.io",
  plural: "listoptions",
  kind: "ListOptions",
};

/**
 * The query's parameters have to fit each other.
 *
 * @throws {StatusError} 422
 */
export function checkListOptions(
  query: URLSearchParams,
  verb: "list" | "watch",
): void {
  const match = query.get("resourceVersionMatch") ?? "";
  const revision = query.get("resourceVersion") ?? "";
  const initial = query.get("sendInitialEvents");
  const field = "resourceVersionMatch";
  const errors: FieldError[] = [];
  const forbid = (why: string) => errors.push(fieldError.forbidden(field, why));
  if (initial !== null && initial !== "") {
    if (verb === "list") {
      const why = "sendInitialEvents is forbidden for list";
      errors.push(fieldError.forbidden("sendInitialEvents", why));
    } else if (match !== "NotOlderThan") {
      forbid(
        "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
      );
    }
  } else if (match !== "" && verb === "watch") {
    forbid(
      "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
    );
  } else if (match !== "" && revision === "") {
    forbid(
      "resourceVersionMatch is forbidden unless resourceVersion is provided",
    );
  } else if (match !== "" && (query.get("continue") ?? "") !== "") {
    forbid("resourceVersionMatch is forbidden when continue is provided");
  } else if (match === "Exact" && revision === "0") {
    forbid('resourceVersionMatch "Exact" is forbidden for resourceVersion "0"');
  } else if (match !== "" && match !== "Exact" && match !== "NotOlderThan") {
    errors.push(
      fieldError.notSupported(field, match, ["Exact", "NotOlderThan", ""]),
    );
  }
  if (errors.length > 0) throw invalid(LIST_OPTIONS, "", errors);
}

function numberOf(query: URLSearchParams, name: string): number {
  const text = query.get(name) ?? "";
  if (text === "") return 0;
  if (!/^\d{1,15}$/.test(text)) {
    throw badRequest(
      `strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`,
    );
  }
  return Number(text);
}

/** As the real server's: base64url without padding, of JSON. */
function encodeToken({ revision, start }: Token): string {
  const json = JSON.stringify({ v: "meta.k8s.io/v1", rv: revision, start });
  const bytes = new TextEncoder().encode(json);
  return bytes.toBase64({ alphabet: "base64url", omitPadding: true });
}

function tokenOf(text: string): Token | undefined {
  if (text === "") return undefined;
  const bad = (why: string) =>
    badRequest(
      `invalid continue token: continue key is not valid: ${why}`,
    );
  let token: { v?: unknown; rv?: unknown; start?: unknown };
  try {
    const bytes = Uint8Array.fromBase64(text, { alphabet: "base64url" });
    token = JSON.parse(new TextDecoder().decode(bytes));
  } catch {
    throw bad("illegal base64 data");
  }
  const { rv: revision, start } = token ?? {};
  if (typeof revision !== "number" || typeof start !== "string") {
    throw bad("unexpected content");
  }
  return { revision, start };
}
