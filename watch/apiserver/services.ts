/**
 * Services, as the server has to know them: their fields, what is filled in
 * when they leave something out (pkg/apis/core/v1/defaults.go and
 * pkg/registry/core/service), and their row in `kubectl get`. What is valid is
 * in `service_validation.ts`; addresses come from `service_addresses.ts`.
 *
 * @module
 */
import {
  type Admission,
  ALL_VERBS,
  type KubeObject,
  record,
  records,
  type ResourceDefinition,
  text,
  texts,
} from "./resource.ts";
import {
  any,
  boolean,
  integer,
  intOrString,
  kubeObject,
  list,
  object,
  string,
  stringMap,
  strings,
} from "./schema.ts";
import type { ServiceAddresses } from "./service_addresses.ts";
import {
  isExternallyAccessible,
  needsHealthCheckPort,
} from "./service_access.ts";
import { serviceErrors } from "./service_validation.ts";
import { ageCell, labelsCell } from "./columns.ts";

const schema = kubeObject({
  spec: object({
    ports: list(
      object({
        name: string,
        protocol: string,
        appProtocol: string,
        port: integer,
        targetPort: intOrString,
        nodePort: integer,
      }),
      { mergeKey: "port", applyKeys: ["port", "protocol"] },
    ),
    selector: stringMap,
    clusterIP: string,
    clusterIPs: strings,
    type: string,
    externalIPs: strings,
    sessionAffinity: string,
    loadBalancerIP: string,
    loadBalancerSourceRanges: strings,
    externalName: string,
    externalTrafficPolicy: string,
    healthCheckNodePort: integer,
    publishNotReadyAddresses: boolean,
    sessionAffinityConfig: object({
      clientIP: object({ timeoutSeconds: integer }),
    }),
    ipFamilies: strings,
    ipFamilyPolicy: string,
    allocateLoadBalancerNodePorts: boolean,
    loadBalancerClass: string,
    internalTrafficPolicy: string,
    trafficDistribution: string,
  }),
  status: object({
    loadBalancer: object({
      ingress: list(
        object({
          ip: string,
          hostname: string,
          ipMode: string,
          ports: list(any),
        }),
      ),
    }),
    conditions: list(any, { mergeKey: "type" }),
  }),
});

/** @param addresses what the cluster has to give out */
export function services(addresses: ServiceAddresses): ResourceDefinition {
  return {
    group: "",
    version: "v1",
    plural: "services",
    singular: "service",
    kind: "Service",
    shortNames: ["svc"],
    namespaced: true,
    verbs: ALL_VERBS,
    schema,
    hasStatus: true,
    createsWithoutStatus: true,
    createsOnUpdate: true,
    returnsDeleted: true,
    nameRule: "label1035",
    emptyFields: { spec: {}, status: { loadBalancer: {} } },
    fields: ({ spec }) => ({
      "spec.clusterIP": text(record(spec).clusterIP),
      "spec.type": text(record(spec).type),
    }),
    setDefaults(service, admission) {
      setDefaults(service);
      keepAllocated(service, admission);
      addresses.setFamilies(service, admission.previous);
    },
    validate: serviceErrors,
    allocate: (service, { previous }) => addresses.allocate(service, previous),
    written: (previous, next) => addresses.written(previous, next),
    columns: [
      { name: "Name", cell: (service) => service.metadata.name },
      { name: "Type", cell: ({ spec }) => text(record(spec).type) },
      {
        name: "Cluster-IP",
        cell: ({ spec }) => text(record(spec).clusterIP) || "<none>",
      },
      { name: "External-IP", cell: externalIPCell },
      { name: "Port(s)", cell: portsCell },
      { name: "Age", cell: ageCell },
      {
        name: "Selector",
        wide: true,
        cell: ({ spec }) => labelsCell(record(spec).selector),
      },
    ],
  };
}

function setDefaults(service: KubeObject): void {
  const spec = record(service.spec);
  service.spec = spec;
  service.status = record(service.status);
  record(service.status).loadBalancer ??= {};
  spec.type ??= "ClusterIP";
  spec.sessionAffinity ??= "None";
  if (spec.sessionAffinity === "None") delete spec.sessionAffinityConfig;
  if (spec.sessionAffinity === "ClientIP") {
    const config = record(spec.sessionAffinityConfig);
    const clientIP = record(config.clientIP);
    clientIP.timeoutSeconds ??= 10800;
    spec.sessionAffinityConfig = { ...config, clientIP };
  }
  for (const port of records(spec.ports)) {
    port.protocol ??= "TCP";
    const target = port.targetPort;
    if (target === undefined || target === 0 || target === "") {
      port.targetPort = port.port;
    }
    if (port.nodePort === 0) delete port.nodePort;
  }
  if (isExternallyAccessible(spec)) spec.externalTrafficPolicy ??= "Cluster";
  if (spec.type !== "ExternalName") spec.internalTrafficPolicy ??= "Cluster";
  if (spec.type === "LoadBalancer") spec.allocateLoadBalancerNodePorts ??= true;
  if (spec.healthCheckNodePort === 0) delete spec.healthCheckNodePort;
  if (spec.clusterIP === "") delete spec.clusterIP;
}

/**
 * An update that leaves out what the server gave keeps it: `kubectl replace`
 * with the manifest the Service was made from must not move its address
 * (patchAllocatedValues). One that changes the type drops what the new type
 * has no use for, unless it was asked for (dropTypeDependentFields).
 */
function keepAllocated(service: KubeObject, { previous }: Admission): void {
  if (previous === undefined) return;
  const spec = record(service.spec);
  const before = record(previous.spec);
  if (spec.type === "ExternalName") {
    if (before.type !== "ExternalName") dropAddresses(spec, before);
  } else if (before.type !== "ExternalName") {
    spec.clusterIP ??= before.clusterIP;
    if (
      spec.clusterIPs === undefined && spec.clusterIP === before.clusterIP
    ) {
      spec.clusterIPs = [...texts(before.clusterIPs)];
    }
    spec.ipFamilies ??= [...texts(before.ipFamilies)];
    spec.ipFamilyPolicy ??= before.ipFamilyPolicy;
  }
  keepNodePorts(spec, before);
  if (needsHealthCheckPort(spec)) {
    if (needsHealthCheckPort(before)) {
      spec.healthCheckNodePort ??= before.healthCheckNodePort;
    }
  } else if (spec.healthCheckNodePort === before.healthCheckNodePort) {
    delete spec.healthCheckNodePort;
  }
  if (
    !isExternallyAccessible(spec) && isExternallyAccessible(before) &&
    spec.externalTrafficPolicy === before.externalTrafficPolicy
  ) delete spec.externalTrafficPolicy;
  if (spec.type !== "LoadBalancer" && before.type === "LoadBalancer") {
    delete spec.allocateLoadBalancerNodePorts;
  }
}

function dropAddresses(
  spec: Record<string, unknown>,
  before: Record<string, unknown>,
): void {
  if (spec.clusterIP === before.clusterIP) {
    delete spec.clusterIP;
    delete spec.clusterIPs;
  }
  delete spec.ipFamilies;
  delete spec.ipFamilyPolicy;
  delete spec.internalTrafficPolicy;
}

function keepNodePorts(
  spec: Record<string, unknown>,
  before: Record<string, unknown>,
): void {
  const hasNodePorts = spec.type === "NodePort" || spec.type === "LoadBalancer";
  const old = new Map(
    records(before.ports).map((port) => [
      `${port.protocol}/${port.port}`,
      port.nodePort,
    ]),
  );
  const given = new Set(records(spec.ports).map((port) => port.nodePort));
  for (const port of records(spec.ports)) {
    const nodePort = old.get(`${port.protocol}/${port.port}`);
    if (nodePort === undefined) continue;
    if (!hasNodePorts) {
      if (port.nodePort === nodePort) delete port.nodePort;
    } else if (!given.has(nodePort)) {
      port.nodePort ??= nodePort;
    }
  }
}

function externalIPCell({ spec, status }: KubeObject): string {
  const { type, externalIPs, externalName } = record(spec);
  if (type === "ExternalName") return text(externalName);
  const ips = texts(externalIPs);
  if (type === "LoadBalancer") {
    const ingress = records(record(record(status).loadBalancer).ingress);
    ips.unshift(...ingress.map((entry) => text(entry.ip || entry.hostname)));
    return ips.length === 0 ? "<pending>" : ips.join(",");
  }
  return ips.length === 0 ? "<none>" : ips.join(",");
}

function portsCell({ spec }: KubeObject): string {
  const ports = records(record(spec).ports).map((
    { port, protocol, nodePort },
  ) =>
    nodePort === undefined
      ? `${port}/${protocol}`
      : `${port}:${nodePort}/${protocol}`
  );
  return ports.length === 0 ? "<none>" : ports.join(",");
}
