/**
 * What kube-portal itself does with a connection, in the words of a walk: which
 * listener gets it, whether it is let in, which list of endpoints it is for,
 * and whose turn it is. Made of the same functions that the proxy runs. Pure.
 *
 * @module
 */
import type { NodeAddresses } from "../node_addresses.ts";
import { Admission, CidrSet } from "../engine/admission.ts";
import type { ForwardingPolicy } from "../engine/engine.ts";
import type { ServicePortState } from "../desired_state.ts";
import { forwardingPolicy } from "../forwarding_policy.ts";
import { singleAddressCidr } from "../ip.ts";
import { listenAddresses, type WantedListener } from "../listen_addresses.ts";
import { type Course, type Left, take } from "./course.ts";
import {
  destinationText,
  type Hook,
  isLocalAddress,
  type WalkedMachine,
} from "./packet.ts";
import type { WalkedMode } from "./traverse.ts";

/** What steering does, in a few words, and where. */
const STEERING = {
  table: "steering",
  chain: "--steer",
  rule: "leads the address to its listener",
  comment: "portal: a route into a namespace; redirect: a rule; route: AnyIP",
} as const;

/** Who counts as inside of the cluster, and the addresses of the node. */
export interface UserspaceNode {
  readonly addresses: NodeAddresses;
  /** This node and its pods (fact 5.51). */
  readonly clusterSources: readonly string[];
}

/** Our own mode, as a connection to one ServicePort meets it. */
export function userspaceMode(
  state: ServicePortState,
  { node, machine }: { node: UserspaceNode; machine: WalkedMachine },
): WalkedMode {
  const policy = forwardingPolicy(state);
  const listeners = listenAddresses(state, node.addresses);
  const sources = new CidrSet([
    ...node.clusterSources,
    ...[...machine.addresses].map(singleAddressCidr),
  ]);
  return {
    machine,
    atHook(hook, course) {
      // Once, where the packet comes to the node; a socket has it from there.
      const isFirst = hook === "output" || hook === "prerouting";
      if (!isFirst || course.packet.isConfirmed) {
        return [{ course, verdict: "continue" }];
      }
      const { packet } = course;
      const listener = listeners.find(({ address }) =>
        address.ip === packet.destination && address.port === packet.port &&
        address.protocol === packet.protocol
      );
      return listener === undefined
        ? [withoutListener(course, { hook, state, machine })]
        : atListener(course, { hook, listener, policy, sources, machine });
    },
  };
}

/** Nobody listens: the kernel refuses, where the packet is led here at all. */
function withoutListener(
  course: Course,
  { hook, state, machine }: {
    hook: Hook;
    state: ServicePortState;
    machine: WalkedMachine;
  },
): Left {
  const { protocol, text } = state.servicePort;
  if (protocol === "SCTP") {
    const comment = `${text}: SCTP is not served`;
    const step = { ...STEERING, hook, rule: "does not lead it here", comment };
    return { course: take(course, step), verdict: "continue" };
  }
  const isNodes = isLocalAddress(course.packet.destination, machine);
  const led = isNodes ? course : take(course, { ...STEERING, hook });
  const after = take(led, {
    hook,
    table: "kube-portal",
    chain: destinationText(course.packet),
    rule: "no listener: the kernel refuses",
    comment: text,
  });
  return { course: after, verdict: "reject" };
}

function atListener(
  start: Course,
  { hook, listener, policy, sources, machine }: {
    hook: Hook;
    listener: WantedListener;
    policy: ForwardingPolicy;
    sources: CidrSet;
    machine: WalkedMachine;
  },
): Left[] {
  const { kind } = listener.address;
  const place = {
    hook,
    table: "kube-portal",
    chain: destinationText(start.packet),
  };
  const course = kind === "NodePort" ? start : take(start, {
    ...STEERING,
    hook,
  });
  const list = new Admission(listener.options)
    .listFor(start.packet.source, sources);
  if (list === undefined) {
    const rule = "not in loadBalancerSourceRanges: reset";
    const after = take(course, { ...place, rule, comment: policy.name });
    return [{ course: after, verdict: "reject" }];
  }
  const endpoints = policy.endpoints[list];
  const accepted = take(course, {
    ...place,
    rule: `accepts; endpoints for ${LISTS[list]} clients`,
    comment: `${policy.name}, ${KINDS[kind]}`,
  });
  if (endpoints.length === 0) {
    const rule = "no endpoint for this client: reset";
    const after = take(accepted, { ...place, rule, comment: "policy Local" });
    return [{ course: after, verdict: "reject" }];
  }
  return endpoints.map((endpoint) => ({
    course: take(accepted, {
      ...place,
      rule: `dials ${destinationText(dialled(endpoint))}`,
      comment: howChosen(policy),
      probability: 1 / endpoints.length,
      changes: {
        ...dialled(endpoint),
        source: machine.nodeIp,
        isTranslated: true,
      },
    }),
    verdict: "accept",
  }));
}

function dialled({ ip, port }: { ip: string; port: number }) {
  return { destination: ip, port };
}

const LISTS = {
  internal: "internal",
  external: "external",
  externalFromCluster: "external (from inside of the cluster)",
} as const;

const KINDS = {
  ClusterIP: "the ClusterIP",
  NodePort: "a NodePort",
  ExternalIP: "an external IP",
  LoadBalancerIP: "a load-balancer IP",
} as const;

function howChosen({ balancer, affinityMs }: ForwardingPolicy): string {
  const how = balancer === "round-robin" ? "in turn" : "fewest connections";
  return affinityMs > 0
    ? `${how}, and a client stays for ${affinityMs / 1_000} s`
    : how;
}
