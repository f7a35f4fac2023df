/**
 * What `kube-portal daemonset` prints, as objects: who the proxy is, what it may
 * ask, how it is configured, and what runs on each node with which privileges.
 * Pure; knows no YAML and no cluster.
 *
 * @module
 */
import { ACCESS_RULES, type AccessRule } from "./access_rules.ts";

/** The name of everything that is made. */
const NAME = "kube-portal";
const LABELS = { "app.kubernetes.io/name": NAME };
const FOLDER = "/var/lib/kube-portal";
const SERVICE_ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";
const HEALTH_PORT = 10256;
/** The lock that all programs of iptables on a machine share. */
const XTABLES_LOCK = "/run/xtables.lock";
/** Where `ip netns` keeps names of namespaces. */
const NETNS_FOLDER = "/run/netns";

export type SteerRequest = "auto" | "portal" | "redirect" | "route" | "none";

export interface DaemonSetOptions {
  /** An address of the API server that needs no proxy: `https://HOST:PORT`. */
  readonly server: string;
  readonly image: string;
  readonly namespace: string;
  readonly steer: SteerRequest;
}

/** A Kubernetes object as it is written. */
export type KubeManifest = Readonly<Record<string, unknown>> & {
  readonly kind: string;
};

/**
 * The capabilities that each `--steer` needs, beside which there are none.
 *
 * - NET_ADMIN: routes, rules, the address on `lo`.
 * - NET_RAW: iptables-legacy speaks to the kernel by a raw socket.
 * - NET_BIND_SERVICE: listeners below port 1024 on the Services' own addresses,
 *   which `redirect` has none of.
 * - SYS_ADMIN: a network namespace of our own. It is next to being root, so
 *   `auto` does not get it, and takes what works without.
 */
export const CAPABILITIES: Readonly<Record<SteerRequest, readonly string[]>> = {
  auto: ["NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"],
  portal: ["NET_ADMIN", "NET_BIND_SERVICE", "SYS_ADMIN"],
  redirect: ["NET_ADMIN", "NET_RAW"],
  route: ["NET_ADMIN", "NET_BIND_SERVICE", "NET_RAW"],
  none: ["NET_BIND_SERVICE"],
};

/** In the order in which they are to be created. */
export function daemonSetObjects(options: DaemonSetOptions): KubeManifest[] {
  const { namespace } = options;
  const metadata = { name: NAME, labels: LABELS };
  return [
    {
      apiVersion: "v1",
      kind: "ServiceAccount",
      metadata: { ...metadata, namespace },
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRole",
      metadata,
      rules: ACCESS_RULES.map(rbacRule),
    },
    {
      apiVersion: "rbac.authorization.k8s.io/v1",
      kind: "ClusterRoleBinding",
      metadata,
      roleRef: {
        apiGroup: "rbac.authorization.k8s.io",
        kind: "ClusterRole",
        name: NAME,
      },
      subjects: [{ kind: "ServiceAccount", name: NAME, namespace }],
    },
    {
      apiVersion: "v1",
      kind: "ConfigMap",
      metadata: { ...metadata, namespace },
    },
    {
      apiVersion: "apps/v1",
      kind: "DaemonSet",
      metadata: { ...metadata, namespace },
      spec: daemonSetSpec(options),
    },
  ];
}

/** The files of the ConfigMap, as objects: each is YAML in its own right. */
export function configFiles(
  { server }: DaemonSetOptions,
): Readonly<Record<string, KubeManifest>> {
  return {
    "config.conf": {
      apiVersion: "kubeproxy.config.k8s.io/v1alpha1",
      kind: "KubeProxyConfiguration",
      mode: "userspace",
      clientConnection: { kubeconfig: `${FOLDER}/kubeconfig.conf` },
    },
    // The environment of a pod names the API server's ClusterIP, which this
    // proxy is to provide.
    "kubeconfig.conf": {
      apiVersion: "v1",
      kind: "Config",
      clusters: [{
        name: "default",
        cluster: {
          server,
          "certificate-authority": `${SERVICE_ACCOUNT}/ca.crt`,
        },
      }],
      users: [{
        name: "default",
        user: { tokenFile: `${SERVICE_ACCOUNT}/token` },
      }],
      contexts: [{
        name: "default",
        context: { cluster: "default", user: "default" },
      }],
      "current-context": "default",
    },
  };
}

function usesRules(steer: SteerRequest): boolean {
  return steer !== "none" && steer !== "portal";
}

function rbacRule({ group, resource, verbs }: AccessRule) {
  return { apiGroups: [group], resources: [resource], verbs };
}

function daemonSetSpec({ image, steer }: DaemonSetOptions) {
  return {
    selector: { matchLabels: LABELS },
    // The new one starts beside the old one and takes its sockets over
    // (--take-over); the old one drains. Both are on the host's network, so
    // that until then the old one answers the new one's probes: what stops the
    // old one only when the new one is known to serve is minReadySeconds.
    // No port is declared, since a node has each only once.
    updateStrategy: {
      type: "RollingUpdate",
      rollingUpdate: { maxUnavailable: 0, maxSurge: 1 },
    },
    minReadySeconds: 10,
    template: {
      metadata: { labels: LABELS },
      spec: {
        serviceAccountName: NAME,
        priorityClassName: "system-node-critical",
        hostNetwork: true,
        // Names are the node's to resolve: cluster DNS is behind this proxy.
        dnsPolicy: "Default",
        nodeSelector: { "kubernetes.io/os": "linux" },
        tolerations: [{ operator: "Exists" }],
        // Above --drain-timeout and the 8 s that a new one may still need, so
        // that draining comes to its end.
        terminationGracePeriodSeconds: 40,
        securityContext: { seccompProfile: { type: "RuntimeDefault" } },
        containers: [container({ image, steer })],
        volumes: [
          { name: "config", configMap: { name: NAME } },
          ...usesRules(steer)
            ? [{
              name: "xtables-lock",
              hostPath: { path: XTABLES_LOCK, type: "FileOrCreate" },
            }]
            : [],
          // The pod's own: to share the node's would take a privileged pod.
          ...steer === "portal" ? [{ name: "netns", emptyDir: {} }] : [],
        ],
      },
    },
  };
}

function container(
  { image, steer }: Pick<DaemonSetOptions, "image" | "steer">,
) {
  return {
    name: NAME,
    image,
    imagePullPolicy: "IfNotPresent",
    args: [
      `--config=${FOLDER}/config.conf`,
      "--hostname-override=$(NODE_NAME)",
      `--steer=${steer}`,
      "--take-over",
      // The kubelet would start it again, and it would take over in its turn.
      "--stay-when-replaced",
    ],
    env: [{
      name: "NODE_NAME",
      valueFrom: { fieldRef: { fieldPath: "spec.nodeName" } },
    }],
    resources: { requests: { cpu: "100m", memory: "128Mi" } },
    // Root, since capabilities are given to no other user; and nothing of
    // root's beside them.
    securityContext: {
      runAsUser: 0,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ["ALL"], add: CAPABILITIES[steer] },
      // The profile of container runtimes forbids every mount, and the name of
      // a namespace is one.
      ...steer === "portal" ? { appArmorProfile: { type: "Unconfined" } } : {},
    },
    livenessProbe: {
      httpGet: { path: "/livez", port: HEALTH_PORT },
      initialDelaySeconds: 10,
      periodSeconds: 10,
      failureThreshold: 3,
      timeoutSeconds: 5,
    },
    readinessProbe: {
      httpGet: { path: "/healthz", port: HEALTH_PORT },
      periodSeconds: 5,
      timeoutSeconds: 5,
    },
    volumeMounts: [
      { name: "config", mountPath: FOLDER, readOnly: true },
      ...usesRules(steer)
        ? [{ name: "xtables-lock", mountPath: XTABLES_LOCK }]
        : [],
      ...steer === "portal" ? [{ name: "netns", mountPath: NETNS_FOLDER }] : [],
    ],
  };
}
