/**
 * Objects as an API server sends them, for tests to start from: what a test is
 * about is what it passes.
 *
 * @module
 */

export interface RawObject {
  readonly metadata: {
    readonly name: string;
    readonly namespace: string;
    readonly uid: string;
    readonly resourceVersion: string;
    readonly [field: string]: unknown;
  };
  readonly [field: string]: unknown;
}

/** A Service `default/NAME` at a version; `port` is a way to make it differ. */
export function rawService(
  name: string,
  resourceVersion: string | number,
  port = 80,
): RawObject {
  return {
    kind: "Service",
    apiVersion: "v1",
    metadata: {
      name,
      namespace: "default",
      uid: `uid-${name}`,
      resourceVersion: String(resourceVersion),
      creationTimestamp: "2026-11-22T06:58:54Z",
    },
    spec: {
      type: "ClusterIP",
      clusterIP: "10.96.0.10",
      clusterIPs: ["10.96.0.10"],
      ipFamilies: ["IPv4"],
      ports: [{ port, protocol: "TCP" }],
    },
    status: { loadBalancer: {} },
  };
}

/** A ServiceList; items of a list say neither kind nor apiVersion. */
export function rawServiceList(
  resourceVersion: string | number,
  items: readonly RawObject[],
  next?: string,
): unknown {
  return {
    kind: "ServiceList",
    apiVersion: "v1",
    metadata: {
      resourceVersion: String(resourceVersion),
      ...(next === undefined ? {} : { continue: next }),
    },
    items: items.map(({ kind: _, apiVersion: __, ...item }) => item),
  };
}

export function rawBookmark(resourceVersion: string | number): unknown {
  return {
    kind: "Service",
    apiVersion: "v1",
    metadata: { resourceVersion: String(resourceVersion) },
    spec: {},
    status: { loadBalancer: {} },
  };
}
