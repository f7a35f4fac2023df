/**
 * What a cluster allows the proxy: whether its API server can be reached and
 * asked, which of its policies a proxy upsets, and whether its endpoints can be
 * reached from here. Reads, and dials a few endpoints; it writes nothing.
 *
 * @module
 */
import {
  type ApiClient,
  type ApiConfig,
  ApiError,
  explainUnreachable,
} from "../../watch/mod.ts";
import type { CommandRunner } from "../rules/command.ts";
import type { SteeringRequest } from "../rules/mod.ts";
import { ACCESS_RULES, type AccessRule } from "./access_rules.ts";
import type { Finding } from "./doctor_finding.ts";
import { dialFinding, type DialTarget } from "./doctor_dial.ts";
import { routeFinding } from "./doctor_packets.ts";
import { errorLine } from "./errors.ts";
import { serviceCidrsOf } from "./service_cidrs.ts";

export interface ClusterOptions {
  readonly config: Pick<ApiConfig, "serviceHost" | "source">;
  readonly client: ApiClient;
  readonly nodeName: string;
  /** What it is to do here. */
  readonly steer: SteeringRequest;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** In the order in which they are printed; the first alone if it fails. */
export async function clusterFindings(
  options: ClusterOptions,
): Promise<Finding[]> {
  const reached = await apiServer(options);
  if (reached.level === "fail") return [reached];
  return [
    reached,
    ...await access(options),
    ...await serviceCidrs(options),
    await node(options),
    await networkPolicies(options),
    await endpoints(options),
  ];
}

async function apiServer(options: ClusterOptions): Promise<Finding> {
  const { client, config } = options;
  const check = "API server";
  try {
    const version = await read(options, "/version") as {
      gitVersion?: string;
    };
    return {
      check,
      level: "ok",
      found: `${client.server} answers, ${
        version.gitVersion ?? "version unknown"
      } (${config.source})`,
    };
  } catch (error) {
    return {
      check,
      level: "fail",
      found: errorLine(error),
      advice: explainUnreachable(config, [], error) ??
        (error instanceof ApiError
          ? "it answers: look at the credentials of the kubeconfig"
          : "look at the address, and at what lies between: curl -k ADDRESS/version"),
    };
  }
}

/** One question for each verb of each rule. Everybody may ask for himself. */
async function access(options: ClusterOptions): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const rule of ACCESS_RULES) {
    const { resource, verbs, without, optional } = rule;
    const check = `may ${verbs.join(", ")}`;
    try {
      const allowed = await Promise.all(
        verbs.map((verb) => isAllowed(options, rule, verb)),
      );
      const denied = verbs.filter((_, index) => !allowed[index]);
      if (denied.length === 0) {
        findings.push({ check, level: "ok", found: resource });
        continue;
      }
      findings.push({
        check,
        level: optional ? "warn" : "fail",
        found: `${resource}: not ${denied.join(", ")}, so ${without}`,
        advice: 'grant it: the ClusterRole that "kube-portal daemonset" prints',
      });
    } catch (error) {
      findings.push({ check, level: "warn", found: errorLine(error) });
    }
  }
  return findings;
}

async function isAllowed(
  { client, signal }: ClusterOptions,
  { group, resource }: AccessRule,
  verb: string,
): Promise<boolean> {
  const response = await client.request(
    "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
    {
      method: "POST",
      body: {
        apiVersion: "authorization.k8s.io/v1",
        kind: "SelfSubjectAccessReview",
        spec: { resourceAttributes: { group, resource, verb } },
      },
      signal,
    },
  );
  const answer = await response.json() as { status?: { allowed?: boolean } };
  return answer.status?.allowed === true;
}

async function serviceCidrs(options: ClusterOptions): Promise<Finding[]> {
  const check = "Service CIDRs";
  const cidrs = await serviceCidrsOf(options.client, options.signal);
  if (cidrs.length === 0) {
    return [{
      check,
      level: "warn",
      found: "the API server does not tell; each address is routed by itself",
      advice: "give --service-cidr, where --steer route is used",
    }];
  }
  const route = await routeFinding(cidrs, options);
  return [
    { check, level: "ok", found: cidrs.join(", ") },
    ...route === undefined ? [] : [route],
  ];
}

async function node(options: ClusterOptions): Promise<Finding> {
  const check = "own Node";
  const { nodeName } = options;
  try {
    const nodes = await listed(options, "/api/v1/nodes", {
      fieldSelector: `metadata.name=${nodeName}`,
    });
    if (nodes.length > 0) return { check, level: "ok", found: nodeName };
    return {
      check,
      level: "warn",
      found:
        `the cluster has no Node "${nodeName}": /healthz stays 503, no endpoint is local`,
      advice: "give --hostname-override, if this machine is a node",
    };
  } catch (error) {
    return { check, level: "warn", found: errorLine(error) };
  }
}

/** Peers that are pods: those that a connection through a proxy is not from. */
interface Policy {
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec?: {
    readonly ingress?: readonly { readonly from?: readonly unknown[] }[];
    readonly egress?: readonly { readonly to?: readonly unknown[] }[];
  };
}

async function networkPolicies(options: ClusterOptions): Promise<Finding> {
  const check = "NetworkPolicies";
  let policies;
  try {
    policies = await listed(
      options,
      "/apis/networking.k8s.io/v1/networkpolicies",
    ) as unknown as Policy[];
  } catch (error) {
    if (error instanceof ApiError && error.code === 404) {
      return { check, level: "ok", found: "this API server has none" };
    }
    return {
      check,
      level: "warn",
      found: `cannot be looked at: ${errorLine(error)}`,
      advice: "as somebody who may: kubectl get networkpolicies -A",
    };
  }
  const upset = policies.filter(({ spec }) =>
    [
      ...(spec?.ingress ?? []).flatMap(({ from }) => from ?? []),
      ...(spec?.egress ?? []).flatMap(({ to }) => to ?? []),
    ].some(isPodPeer)
  ).map(({ metadata }) => `${metadata.namespace}/${metadata.name}`);
  if (upset.length === 0) {
    return {
      check,
      level: "ok",
      found: policies.length === 0
        ? "none"
        : `${policies.length}, none of which names pods as peers`,
    };
  }
  const shown = upset.slice(0, SHOWN_POLICIES).join(", ");
  const more = upset.length > SHOWN_POLICIES ? ", …" : "";
  return {
    check,
    level: "warn",
    found:
      `${upset.length} name pods or namespaces as peers (${shown}${more}); through a Service they see the node's address instead`,
    advice:
      "allow the nodes' addresses in them (ipBlock), or keep kube-proxy where they must hold",
  };
}

const SHOWN_POLICIES = 5;

function isPodPeer(peer: unknown): boolean {
  return typeof peer === "object" && peer !== null &&
    ("podSelector" in peer || "namespaceSelector" in peer);
}

interface Slice {
  readonly metadata: { readonly name: string; readonly namespace?: string };
  readonly addressType?: string;
  readonly ports?: readonly { port?: number; protocol?: string }[];
  readonly endpoints?: readonly {
    addresses?: readonly string[];
    conditions?: { ready?: boolean };
  }[];
}

async function endpoints(options: ClusterOptions): Promise<Finding> {
  try {
    const slices = await listed(
      options,
      "/apis/discovery.k8s.io/v1/endpointslices",
      { limit: "500" },
    ) as unknown as Slice[];
    return await dialFinding(slices.flatMap(targetOf), options.signal);
  } catch (error) {
    return { check: "endpoints", level: "warn", found: errorLine(error) };
  }
}

/** One of each slice; the API servers', which are no pods, are left out. */
function targetOf(
  { metadata, addressType, ports, endpoints }: Slice,
): DialTarget[] {
  if (metadata.name === "kubernetes" && metadata.namespace === "default") {
    return [];
  }
  const port = ports?.find(({ protocol, port }) =>
    (protocol ?? "TCP") === "TCP" && port !== undefined
  )?.port;
  const ip = endpoints?.find(({ conditions }) => conditions?.ready !== false)
    ?.addresses?.[0];
  return port === undefined || ip === undefined || addressType === "FQDN"
    ? []
    : [{ ip, port }];
}

async function listed(
  options: ClusterOptions,
  path: string,
  query: Readonly<Record<string, string>> = {},
): Promise<readonly unknown[]> {
  const list = await read(options, path, query) as { items?: unknown[] };
  return list.items ?? [];
}

async function read(
  { client, signal }: ClusterOptions,
  path: string,
  query: Readonly<Record<string, string>> = {},
): Promise<unknown> {
  const response = await client.request(path, { query, signal });
  return await response.json();
}
