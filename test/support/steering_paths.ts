/**
 * Every way to a Service, for every strategy: who dials what, and how it ends.
 * The rows of the matrix in README.
 *
 * @module
 */
import type { Dial } from "./dialing.ts";
import type { Namespace } from "./netns.ts";
import {
  BALANCED,
  EMPTY,
  FAR,
  HELD,
  NODE_PORTS,
  PORTS,
  type SteeringStage,
  type StrategyName,
  WEB,
} from "./steering_stage.ts";

/** How a dial ended, in the words of the matrix. */
export type Outcome = string;

export interface Path {
  readonly name: string;
  readonly client: (stage: SteeringStage) => Namespace;
  /** By family: 0 is IPv4, 1 is IPv6. */
  readonly ip: (stage: SteeringStage, family: 0 | 1) => string;
  readonly port: number;
  /** Default: both. A refused datagram is not told to everybody. */
  readonly protocols?: readonly Dial["protocol"][];
  readonly want: Outcome | Readonly<Partial<Record<StrategyName, Outcome>>>;
}

export const ANSWERED = "answered";
export const REFUSED = "refused";
export const NO_ANSWER = "no answer";
export const CLOSED = "closed";

/** An address that is not local has to be led here by a rule. */
const BY_RULES_ONLY = {
  "portal": ANSWERED,
  "route": NO_ANSWER,
  "redirect, iptables-nft": ANSWERED,
  "redirect, iptables-legacy": ANSWERED,
  "redirect, nft": ANSWERED,
};

const pod1 = (stage: SteeringStage) => stage.pod1;
const pod2 = (stage: SteeringStage) => stage.pod2;
const node = (stage: SteeringStage) => stage.node;
const outside = (stage: SteeringStage) => stage.outside;
const node2 = (stage: SteeringStage) => stage.node2;

const fixed = (ips: readonly [string, string]) => (_: unknown, family: 0 | 1) =>
  ips[family];
const nodeIp = ({ node }: SteeringStage, family: 0 | 1) =>
  [node.ipv4, node.ipv6][family] as string;

const web = { ip: fixed(WEB), port: PORTS.service, want: ANSWERED };
const nodePort = { ip: nodeIp, port: NODE_PORTS.web, want: ANSWERED };
const empty = {
  ip: fixed(EMPTY),
  port: PORTS.service,
  protocols: ["tcp"],
  want: REFUSED,
} as const;
const unserved = {
  ip: fixed(WEB),
  port: PORTS.unserved,
  protocols: ["tcp"],
  want: REFUSED,
} as const;
const external = { port: PORTS.service, want: ANSWERED };
const balanced = {
  ip: fixed(BALANCED),
  port: PORTS.service,
  protocols: ["tcp"],
} as const;

export const PATHS: readonly Path[] = [
  { name: "pod → ClusterIP", client: pod2, ...web },
  { name: "pod → its own Service (hairpin)", client: pod1, ...web },
  { name: "node → ClusterIP", client: node, ...web },
  { name: "outside → ClusterIP", client: outside, ...web },
  { name: "outside → NodePort", client: outside, ...nodePort },
  { name: "pod → NodePort", client: pod2, ...nodePort },
  { name: "node → NodePort", client: node, ...nodePort },
  {
    name: "outside → external IP that the node has",
    client: outside,
    ip: fixed(HELD),
    ...external,
  },
  {
    name: "outside → external IP that the node has not",
    client: outside,
    ip: fixed(FAR),
    ...external,
    want: BY_RULES_ONLY,
  },
  {
    name: "pod → external IP that the node has not",
    client: pod2,
    ip: fixed(FAR),
    ...external,
    want: BY_RULES_ONLY,
  },
  {
    name: "outside, in the source ranges → load-balancer IP",
    client: outside,
    ...balanced,
    want: ANSWERED,
  },
  {
    name: "second node, in none of them → load-balancer IP",
    client: node2,
    ...balanced,
    want: CLOSED,
  },
  { name: "pod → Service without endpoints", client: pod2, ...empty },
  { name: "node → Service without endpoints", client: node, ...empty },
  {
    name: "outside → NodePort without endpoints",
    client: outside,
    ...empty,
    ip: nodeIp,
    port: NODE_PORTS.empty,
  },
  { name: "pod → unserved port of a ClusterIP", client: pod2, ...unserved },
  { name: "node → unserved port of a ClusterIP", client: node, ...unserved },
];

/** Nothing is worth waiting longer for, where nothing is to be expected. */
const SILENCE_MS = 1_500;

/** Dials all paths, in both families, one program for each client. */
export async function outcomes(
  stage: SteeringStage,
  strategy: StrategyName,
): Promise<Map<string, { want: Outcome; got: Outcome }>> {
  const tries = PATHS.flatMap((path) => {
    const { protocols = ["tcp", "udp"] } = path;
    const want = wanted(path, strategy);
    return protocols.flatMap((protocol) =>
      ([0, 1] as const).map((family) => ({
        path,
        label: `IPv${family === 0 ? 4 : 6} ${protocol.toUpperCase()}`,
        client: path.client(stage),
        dial: {
          protocol,
          ip: path.ip(stage, family),
          port: path.port,
          text: "hello",
          ...(want === NO_ANSWER ? { timeoutMs: SILENCE_MS } : {}),
        },
      }))
    );
  });
  const replies = new Map<unknown, string>();
  const clients = new Set(tries.map(({ client }) => client));
  await Promise.all([...clients].map(async (client) => {
    const own = tries.filter((each) => each.client === client);
    const answers = await client.dialAll(own.map(({ dial }) => dial));
    for (const [index, each] of own.entries()) {
      replies.set(each, answers[index] ?? "");
    }
  }));
  return new Map(PATHS.map((path) => {
    const own = tries.filter((each) => each.path === path);
    const got = own.map((each) =>
      [
        each.label,
        outcome(replies.get(each) ?? ""),
      ] as const
    );
    return [path.name, { want: wanted(path, strategy), got: summary(got) }];
  }));
}

function wanted({ want }: Path, strategy: StrategyName): Outcome {
  return typeof want === "string" ? want : want[strategy] ?? ANSWERED;
}

export function outcome(reply: string): Outcome {
  if (/^pod1 \S+\nhello$/.test(reply)) return ANSWERED;
  if (reply === "" || reply === "error: ConnectionReset") return CLOSED;
  if (reply === "error: ConnectionRefused") return REFUSED;
  // Somebody on the way may say that there is no such address.
  if (/^error: (Timeout|.*Unreachable)$/.test(reply)) return NO_ANSWER;
  return reply.replaceAll("\n", " ");
}

/** One word where all ended alike; else each with its own. */
function summary(got: readonly (readonly [string, Outcome])[]): Outcome {
  const [first] = got;
  const isUniform = got.every(([, each]) => each === first?.[1]);
  return isUniform
    ? first?.[1] ?? ""
    : got.map(([label, each]) => `${label} ${each}`).join(", ");
}
