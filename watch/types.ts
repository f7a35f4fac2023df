/**
 * The Kubernetes objects this project reads, and only the fields it reads,
 * named as the API names them (core/v1, discovery.k8s.io/v1). Objects of these
 * types are what `decode.ts` made of the wire: defaults filled in, nulls gone,
 * bulky fields (managedFields) dropped. They are never changed after that.
 *
 * @module
 */

export type Protocol = "TCP" | "UDP" | "SCTP";

export interface ObjectMeta {
  readonly name: string;
  /** Empty for objects without a namespace, as Node. */
  readonly namespace: string;
  readonly uid: string;
  readonly resourceVersion: string;
  /** RFC 3339; empty when the source has none (YAML files). */
  readonly creationTimestamp: string;
  readonly deletionTimestamp?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Service {
  readonly kind: "Service";
  readonly metadata: ObjectMeta;
  readonly spec: ServiceSpec;
  readonly status: { readonly loadBalancer: LoadBalancerStatus };
}

export type ServiceType =
  | "ClusterIP"
  | "NodePort"
  | "LoadBalancer"
  | "ExternalName";

export interface ServiceSpec {
  readonly type: ServiceType;
  /** Empty: none yet (or ExternalName). `None`: headless. */
  readonly clusterIP: string;
  readonly clusterIPs: readonly string[];
  readonly ipFamilies: readonly ("IPv4" | "IPv6")[];
  readonly ports: readonly ServicePortSpec[];
  readonly externalIPs: readonly string[];
  readonly loadBalancerSourceRanges: readonly string[];
  readonly sessionAffinity: "None" | "ClientIP";
  /** Seconds; 10800 unless the object says otherwise. */
  readonly sessionAffinityTimeoutSeconds: number;
  readonly internalTrafficPolicy: "Cluster" | "Local";
  readonly externalTrafficPolicy: "Cluster" | "Local";
  /** 0: none. */
  readonly healthCheckNodePort: number;
}

export interface ServicePortSpec {
  /** Empty where the Service has one, unnamed port. */
  readonly name: string;
  readonly protocol: Protocol;
  readonly port: number;
  /** 0: none. */
  readonly nodePort: number;
}

export interface LoadBalancerStatus {
  readonly ingress: readonly {
    /** Empty for an entry that has only a host name. */
    readonly ip: string;
    readonly ipMode: "VIP" | "Proxy";
  }[];
}

export interface EndpointSlice {
  readonly kind: "EndpointSlice";
  readonly metadata: ObjectMeta;
  readonly addressType: string;
  readonly ports: readonly EndpointSlicePort[];
  readonly endpoints: readonly SliceEndpoint[];
}

export interface EndpointSlicePort {
  readonly name: string;
  readonly protocol: Protocol;
  /** Missing: "all ports", which no proxy mode serves. */
  readonly port?: number;
}

export interface SliceEndpoint {
  readonly addresses: readonly string[];
  readonly conditions: {
    readonly ready: boolean;
    readonly serving: boolean;
    readonly terminating: boolean;
  };
  /** Empty: not told. */
  readonly nodeName: string;
  readonly hints: {
    readonly forZones: readonly string[];
    readonly forNodes: readonly string[];
  };
}

export interface Node {
  readonly kind: "Node";
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly podCIDRs: readonly string[];
    readonly taints: readonly { readonly key: string }[];
  };
  readonly status: {
    readonly addresses: readonly {
      readonly type: string;
      readonly address: string;
    }[];
  };
}

export type ClusterObject = Service | EndpointSlice | Node;

/** The API's own word for what went wrong (meta/v1 Status). */
export interface Status {
  readonly kind: "Status";
  readonly code: number;
  readonly reason: string;
  readonly message: string;
  /** Seconds the server asks to wait. */
  readonly retryAfterSeconds?: number;
}

/** `namespace/name`; just the name where there is no namespace. */
export type ObjectKey = string;

export function objectKey(
  metadata: Pick<ObjectMeta, "namespace" | "name">,
): ObjectKey {
  return metadata.namespace === ""
    ? metadata.name
    : `${metadata.namespace}/${metadata.name}`;
}

/**
 * What every source of objects (reflector, poller, YAML files) yields.
 *
 * 1. The first object event is `replaced`; it holds the complete list.
 * 2. A later `replaced` is a complete list too: what is missing is deleted.
 * 3. Events of one object come in its order; across objects there is none.
 * 4. Some states of an object may never be seen, only later ones.
 */
export type SourceEvent<T extends ClusterObject> =
  | {
    readonly type: "replaced";
    readonly objects: readonly T[];
    /**
     * Listed, but not readable; each was named in the log. An object already
     * known under such a key keeps its last readable state.
     */
    readonly unreadable: ReadonlySet<ObjectKey>;
  }
  | { readonly type: "applied"; readonly object: T }
  | { readonly type: "deleted"; readonly key: ObjectKey }
  | { readonly type: "state"; readonly state: SourceState };

/** What a source is doing; for people, nothing is decided by it. */
export interface SourceState {
  readonly phase: "listing" | "watching" | "polling" | "following" | "waiting";
  /** Why it waits, one sentence. */
  readonly reason?: string;
}

/** What became of one object: `before` missing: new; `after` missing: gone. */
export interface Change<T extends ClusterObject> {
  readonly key: ObjectKey;
  readonly before?: T;
  readonly after?: T;
}
