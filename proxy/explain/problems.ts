/**
 * What is wrong with a Service, in sentences: why a client is refused, or does
 * not get the endpoint that somebody expects. In: a ServicePort's state, and
 * the objects it was made from. Pure.
 *
 * @module
 */
import type { EndpointSlice } from "../../watch/types.ts";
import { serviceKeyOf, type ServicePortState } from "../desired_state.ts";
import { cidrContains } from "../ip.ts";
import type { Connection } from "./packet.ts";
import type { Target } from "./target.ts";

export interface ClusterObjects {
  readonly slices: Iterable<EndpointSlice>;
  /** The own Node's name. */
  readonly nodeName: string;
}

/** The most important first; empty: nothing is. */
export function problemsOf(
  target: Target,
  { connection, objects }: {
    connection: Connection;
    objects: ClusterObjects;
  },
): string[] {
  const { state } = target;
  return [
    ...endpointProblems(state, objects),
    ...policyProblems(target, { connection, objects }),
    ...rangeProblems(target, connection),
    ...noticeTerminating(state),
  ];
}

/** Why there is no usable endpoint at all. */
function endpointProblems(
  state: ServicePortState,
  objects: ClusterObjects,
): string[] {
  const { servicePort, endpoints, hasAny } = state;
  if (hasAny || endpoints.some(({ ready }) => ready)) return [];
  const key = `${servicePort.namespace}/${servicePort.name}`;
  const slices = [...objects.slices].filter((slice) =>
    serviceKeyOf(slice) === key
  );
  if (slices.length === 0) {
    return [
      `no endpoint: no EndpointSlice is labelled kubernetes.io/service-name=${servicePort.name}; is there a pod that its selector finds?`,
    ];
  }
  const ofFamily = slices.filter(({ addressType }) =>
    addressType === servicePort.family
  );
  if (ofFamily.length === 0) {
    return [
      `no endpoint of ${servicePort.family}: its slices have ${
        [...new Set(slices.map(({ addressType }) => addressType))].join(", ")
      }`,
    ];
  }
  if (endpoints.length === 0) return [withoutPort(state, ofFamily)];
  const terminating = endpoints.filter((each) => each.terminating).length;
  const notReady = endpoints.length - terminating;
  const counts = [
    ...notReady > 0 ? [`${notReady} ${isOrAre(notReady)} not ready`] : [],
    ...terminating > 0
      ? [`${terminating} ${isOrAre(terminating)} terminating`]
      : [],
  ];
  return [`no ready endpoint: ${counts.join(", ")}`];
}

function isOrAre(count: number): string {
  return count === 1 ? "is" : "are";
}

/** Slices are matched by the port's name, never by its number (fact 2.16). */
function withoutPort(
  { servicePort }: ServicePortState,
  slices: readonly EndpointSlice[],
): string {
  const offered = slices.flatMap(({ ports }) => ports);
  if (slices.every(({ endpoints }) => endpoints.length === 0)) {
    return "no endpoint: its slices are empty";
  }
  const what = servicePort.port === ""
    ? "its port, which has no name,"
    : `port name ${servicePort.port}`;
  const names = offered.map(({ name, protocol, port }) =>
    `${name || "(no name)"} ${port ?? "?"}/${protocol}`
  );
  return `${what} (${servicePort.protocol}) is in no slice: they have ${
    [...new Set(names)].join(", ") || "no ports"
  }`;
}

/** A policy of Local, and nobody here. */
function policyProblems(
  { state, kind }: Target,
  { connection, objects }: {
    connection: Connection;
    objects: ClusterObjects;
  },
): string[] {
  const { servicePort, local, hasAny } = state;
  if (!hasAny || local.length > 0) return [];
  const policy = kind === "ClusterIP"
    ? servicePort.internalPolicyLocal && "internalTrafficPolicy"
    : servicePort.externalPolicyLocal && connection.origin === "outside" &&
      "externalTrafficPolicy";
  if (!policy) return [];
  const count = state.endpoints.filter(({ ready }) => ready).length;
  const node = objects.nodeName === "" ? "this node" : objects.nodeName;
  return [
    `${policy} Local and none here: ${count} ready ${
      count === 1 ? "endpoint is" : "endpoints are"
    } on other nodes than ${node}`,
  ];
}

function rangeProblems(
  { state: { servicePort }, kind }: Target,
  { source }: Connection,
): string[] {
  const { sourceRanges } = servicePort;
  const isBarred = kind === "LoadBalancerIP" && sourceRanges.length > 0 &&
    !sourceRanges.some((cidr) => cidrContains(cidr, source));
  return isBarred
    ? [
      `${source} is in none of the loadBalancerSourceRanges (${
        sourceRanges.join(", ")
      })`,
    ]
    : [];
}

function noticeTerminating(
  { endpoints, cluster, local }: ServicePortState,
): string[] {
  const used = new Set([...cluster, ...local]);
  const isFallback = used.size > 0 &&
    [...used].every(({ terminating, ready }) => terminating && !ready);
  if (!isFallback) return [];
  return [
    `no ready endpoint is left: ${used.size} of ${endpoints.length} that terminate still serve`,
  ];
}
