/**
 * What the owner of a Service must know, as Kubernetes Events: looks now and
 * then at what the proxy could not do, and records what is new. In: the running
 * proxy's state, read only. Out: events for `watch/events.ts`, which bounds
 * their rate. It changes nothing, and the proxy does not know of it.
 *
 * @module
 */
import {
  type ApiClient,
  type Clock,
  type ClusterEvent,
  EventRecorder,
} from "../../watch/mod.ts";
import { addressKey } from "../listen_addresses.ts";
import type { RunningProxy } from "./running_proxy.ts";

/** What an owner can mend, or should not have to search for. */
export interface ServiceProblem {
  /** `namespace/name`. */
  readonly service: string;
  readonly reason: string;
  readonly action: string;
  readonly note: string;
}

/** The part of the running proxy that problems are read from. */
export type ProblemSource = Pick<
  RunningProxy,
  "nodeName" | "state" | "ports" | "healthCheckFailures"
>;

/**
 * Every problem there is now. Without those that are the machine's and not the
 * Service's, as an external address that this node does not have: each node
 * of a cluster would say that of each such Service.
 */
export function* serviceProblems(
  proxy: ProblemSource,
): Generator<ServiceProblem> {
  const { nodeName } = proxy;
  for (const { key, problems } of proxy.state.values()) {
    for (const note of problems) {
      yield { service: key, reason: "Unsupported", action: "Serve", note };
    }
  }
  for (const port of proxy.ports()) {
    const { namespace, name } = port.state.servicePort;
    for (const { address, kind, reason } of port.failures) {
      if (kind === "other") continue;
      yield {
        service: `${namespace}/${name}`,
        reason: kind === "conflict" ? "AddressConflict" : "PortInUse",
        action: "Listen",
        note: `node ${nodeName} does not serve ${
          addressKey(address)
        }: ${reason}`,
      };
    }
  }
  for (const { check, reason } of proxy.healthCheckFailures()) {
    const service = `${check.namespace}/${check.name}`;
    yield {
      service,
      reason: "FailedToStartServiceHealthcheck",
      action: "Listen",
      // Fact 6.46.
      note:
        `node ${nodeName} failed to start healthcheck "${service}" on port ${check.port}: ${reason}`,
    };
  }
}

/** What goes away between two looks nobody has to know of. */
const LOOK_INTERVAL_MS = 2_000;
/** An API server forgets an Event after an hour; what still holds is repeated. */
const REPEAT_INTERVAL_MS = 30 * 60_000;

export interface ServiceEventsOptions {
  readonly proxy: ProblemSource & Pick<RunningProxy, "serviceUid">;
  readonly recorder: Pick<EventRecorder, "record">;
  readonly clock: Clock;
  readonly signal: AbortSignal;
}

/** Records problems that last, until the signal. */
export async function followServiceProblems(
  { proxy, recorder, clock, signal }: ServiceEventsOptions,
): Promise<void> {
  /** Problem → when it was last recorded; undefined: seen once. */
  let seen = new Map<string, number | undefined>();
  while (!signal.aborted) {
    const now = clock.now();
    const next = new Map<string, number | undefined>();
    for (const problem of serviceProblems(proxy)) {
      const key = `${problem.service} ${problem.reason} ${problem.note}`;
      // One health check may fail on several addresses.
      if (next.has(key)) continue;
      const saidAt = seen.get(key);
      const isDue = seen.has(key) &&
        (saidAt === undefined || now - saidAt >= REPEAT_INTERVAL_MS);
      const event = isDue ? eventOf(problem, proxy) : undefined;
      if (event !== undefined) recorder.record(event);
      next.set(key, event === undefined ? saidAt : now);
    }
    seen = next;
    await clock.delay(LOOK_INTERVAL_MS, signal).catch(() => {});
  }
}

function eventOf(
  { service, reason, action, note }: ServiceProblem,
  proxy: Pick<RunningProxy, "serviceUid">,
): ClusterEvent | undefined {
  const uid = proxy.serviceUid(service);
  if (uid === undefined) return undefined;
  const [namespace = "", name = ""] = service.split("/");
  return {
    subject: { apiVersion: "v1", kind: "Service", namespace, name, uid },
    type: "Warning",
    reason,
    action,
    note,
  };
}

/** kube-proxy's first sign of life, on its Node (fact 8.101). */
function startEvent(nodeName: string): ClusterEvent {
  return {
    subject: {
      apiVersion: "v1",
      kind: "Node",
      namespace: "",
      name: nodeName,
      // What every component on a node uses, since it may not know the real one.
      uid: nodeName,
    },
    type: "Normal",
    reason: "Starting",
    action: "StartKubeProxy",
    note: "",
  };
}

/**
 * Tells owners of Services, through the API server, what they must know, until
 * the signal.
 */
export async function writeEvents(
  client: ApiClient,
  { proxy, clock, signal }: Omit<ServiceEventsOptions, "recorder">,
): Promise<void> {
  const recorder = new EventRecorder({
    client,
    clock,
    component: "kube-portal",
    nodeName: proxy.nodeName,
  });
  recorder.record(startEvent(proxy.nodeName));
  await Promise.all([
    recorder.run(signal),
    followServiceProblems({ proxy, recorder, clock, signal }),
  ]);
}
