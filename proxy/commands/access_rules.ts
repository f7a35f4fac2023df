/**
 * What the proxy asks of an API server, as RBAC has it. `daemonset` grants it,
 * `doctor` asks whether it is granted, and a test holds it against the requests
 * that a proxy makes. Data only.
 *
 * @module
 */

/** A rule of a ClusterRole, and why it is there. */
export interface AccessRule {
  /** Empty: the core group. */
  readonly group: string;
  readonly resource: string;
  readonly verbs: readonly string[];
  /** What does not work without it, as the rest of a sentence. */
  readonly without: string;
  /** The proxy runs without it, and says so. */
  readonly optional?: boolean;
}

/**
 * All of it. `/version` needs no rule: everybody who has a name may read it
 * (`system:public-info-viewer`). Nodes cannot be narrowed to the own one: the
 * ServiceAccount is that of all nodes.
 */
export const ACCESS_RULES: readonly AccessRule[] = [
  {
    group: "",
    resource: "services",
    verbs: ["list", "watch"],
    without: "nothing is served",
  },
  {
    group: "discovery.k8s.io",
    resource: "endpointslices",
    verbs: ["list", "watch"],
    without: "nothing is served",
  },
  {
    group: "",
    resource: "nodes",
    verbs: ["list", "watch"],
    without: "/healthz stays 503, and zones and pod CIDRs are not known",
  },
  {
    group: "networking.k8s.io",
    resource: "servicecidrs",
    verbs: ["list"],
    without: "--steer route adds a route for each Service address",
    optional: true,
  },
  {
    group: "",
    resource: "events",
    verbs: ["create", "patch"],
    without: "owners of Services are not told of problems by Events",
    optional: true,
  },
];
