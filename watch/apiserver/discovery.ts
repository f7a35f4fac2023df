/**
 * What a client asks before it asks for objects: version, API groups and
 * resources, and OpenAPI. Just enough for kubectl to find its way and be
 * quiet; schemas are not published.
 *
 * @module
 */
import { Hono } from "hono";
import { apiVersion, type ResourceDefinition } from "./resource.ts";

const VERSION = {
  major: "1",
  minor: "33",
  gitVersion: "v1.33.0-kube-portal",
  gitCommit: "",
  gitTreeState: "clean",
  buildDate: "1970-01-01T00:00:00Z",
  goVersion: "",
  compiler: "deno",
  platform: "linux/amd64",
};

/** Asked with POST, answered at once, not stored. */
const REVIEWS = {
  name: "selfsubjectaccessreviews",
  singularName: "selfsubjectaccessreview",
  namespaced: false,
  kind: "SelfSubjectAccessReview",
  verbs: ["create"],
};
const REVIEW_GROUP = "authorization.k8s.io";

/** An empty document, as protobuf: kubectl validates nothing, and says nothing. */
const OPENAPI_V2_TYPE =
  "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/** Routes for `/version`, `/healthz`, `/api`, `/apis`, `/openapi`. */
export function discoveryRoutes(
  definitions: readonly ResourceDefinition[],
): Hono {
  const app = new Hono();
  app.get("/version", (context) => context.json(VERSION));
  for (const path of ["/healthz", "/livez", "/readyz"]) {
    app.get(path, (context) => context.text("ok"));
  }
  app.get(
    "/",
    (context) =>
      context.json({ paths: ["/api", "/apis", "/healthz", "/version"] }),
  );
  app.get(
    "/api",
    (context) => context.json({ kind: "APIVersions", versions: ["v1"] }),
  );
  const groups = groupsOf(definitions);
  app.get(
    "/apis",
    (context) =>
      context.json({ kind: "APIGroupList", apiVersion: "v1", groups }),
  );
  for (const group of groups) {
    app.get(
      `/apis/${group.name}`,
      (context) =>
        context.json({ kind: "APIGroup", apiVersion: "v1", ...group }),
    );
  }
  for (const [version, resources] of resourcesOf(definitions)) {
    app.get(`${pathOf(version)}`, (context) =>
      context.json({
        kind: "APIResourceList",
        ...(version === "v1" ? {} : { apiVersion: "v1" }),
        groupVersion: version,
        resources,
      }));
  }
  app.get("/openapi/v2", () =>
    new Response(new Uint8Array(), {
      headers: { "Content-Type": OPENAPI_V2_TYPE },
    }));
  openAPIv3(app, definitions);
  return app;
}

/** `/api/v1`, `/apis/discovery.k8s.io/v1`. */
export function pathOf(version: string): string {
  return version === "v1" ? "/api/v1" : `/apis/${version}`;
}

function groupsOf(definitions: readonly ResourceDefinition[]) {
  const names = new Set(
    definitions.map(({ group }) => group).filter((group) => group !== ""),
  );
  return [...names, REVIEW_GROUP].map((name) => {
    const version = { groupVersion: `${name}/v1`, version: "v1" };
    return { name, versions: [version], preferredVersion: version };
  });
}

function resourcesOf(definitions: readonly ResourceDefinition[]) {
  const result = new Map<string, unknown[]>();
  for (const definition of definitions) {
    const { plural, singular, kind, namespaced, verbs, shortNames } =
      definition;
    const resources = result.get(apiVersion(definition)) ?? [];
    result.set(apiVersion(definition), resources);
    resources.push({
      name: plural,
      singularName: singular,
      namespaced,
      kind,
      verbs,
      ...(shortNames.length === 0 ? {} : { shortNames }),
      ...(plural === "services" ? { categories: ["all"] } : {}),
    });
    if (definition.hasStatus) {
      resources.push({
        name: `${plural}/status`,
        singularName: "",
        namespaced,
        kind,
        verbs: ["get", "patch", "update"],
      });
    }
  }
  result.set(`${REVIEW_GROUP}/v1`, [REVIEWS]);
  return result;
}

/**
 * Says of every PATCH that it takes `fieldValidation`: that is where kubectl
 * looks, and then leaves the validation to the server.
 */
function openAPIv3(app: Hono, definitions: readonly ResourceDefinition[]) {
  const versions = [...new Set(definitions.map(apiVersion))];
  app.get("/openapi/v3", (context) =>
    context.json({
      paths: Object.fromEntries(versions.map((version) => {
        const path = pathOf(version);
        const serverRelativeURL = `/openapi/v3${path}`;
        return [path.slice(1), { serverRelativeURL }];
      })),
    }));
  for (const version of versions) {
    const own = definitions.filter((one) => apiVersion(one) === version);
    const paths = Object.fromEntries(
      own.map((definition) => [
        `${pathOf(version)}/${
          definition.namespaced ? "namespaces/{namespace}/" : ""
        }${definition.plural}/{name}`,
        {
          patch: {
            parameters: [{
              name: "fieldValidation",
              in: "query",
              schema: { type: "string", uniqueItems: true },
            }],
            responses: { 200: { description: "OK" } },
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": {
              group: definition.group,
              version: definition.version,
              kind: definition.kind,
            },
          },
        },
      ]),
    );
    app.get(`/openapi/v3${pathOf(version)}`, (context) =>
      context.json({
        openapi: "3.0.0",
        info: { title: "kube-portal", version: VERSION.gitVersion },
        paths,
        components: { schemas: {} },
      }));
  }
}
