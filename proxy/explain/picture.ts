/**
 * An explanation as a picture for a terminal: the hops of one way from top to
 * bottom, then where the others part from it. In: explanations. Out: text.
 * Pure.
 *
 * @module
 */
import { connectionText, type Explanation } from "./mod.ts";
import {
  type Branch,
  destinationText,
  type Hop,
  type Outcome,
  type Packet,
} from "./packet.ts";

/** Other ways that are shown; of a Service with many endpoints the rest is counted. */
const WAYS_MAX = 16;

/** One explanation, and a line for each thing that is wrong. */
export function picture(explanation: Explanation): string {
  const { servicePort, kind, connection, mode, problems } = explanation;
  const [shown, ...others] = byLikelihood(explanation.branches);
  if (shown === undefined) return "";
  const lines = [
    `${servicePort}, ${KIND_WORDS[kind]}, from ${
      ORIGIN_WORDS[connection.origin]
    }: ${mode} mode`,
    "",
    ...problems.map((problem) => `! ${problem}`),
    ...problems.length > 0 ? [""] : [],
    connectionText(connection),
    ...shown.hops.flatMap((hop) => hopLines(hop)),
    `└─► ${outcomeText(shown)}`,
    ...others.length > 0 ? ["", ...otherLines(shown, others)] : [],
  ];
  return lines.map((line) => line.trimEnd()).join("\n") + "\n";
}

const KIND_WORDS = {
  ClusterIP: "its ClusterIP",
  NodePort: "a NodePort",
  ExternalIP: "an external IP",
  LoadBalancerIP: "a load-balancer IP",
} as const;

const ORIGIN_WORDS = {
  pod: "a pod of this node",
  node: "the node itself",
  outside: "outside of the cluster",
} as const;

/** The likeliest first; equals stay in the order of the program. */
function byLikelihood(branches: readonly Branch[]): Branch[] {
  return branches.toSorted((a, b) =>
    Math.abs(b.probability - a.probability) < 1e-9
      ? 0
      : b.probability - a.probability
  );
}

function hopLines(hop: Hop): string[] {
  const { hook, table, chain, rule, comment, probability } = hop;
  const chance = probability < 1 ? `  (${percent(probability)})` : "";
  const changed = changeText(hop);
  return [
    `├─ ${hook.padEnd(11)} ${`${table} ${chain}`.trim()}${chance}`,
    `│    ${shortened(rule)}`,
    ...comment === "" ? [] : [`│    # ${comment}`],
    ...changed === "" ? [] : [`│    ${changed}`],
  ];
}

/** Rules of a Service with many endpoints name them all. */
const RULE_LENGTH_MAX = 140;

function shortened(rule: string): string {
  return rule.length <= RULE_LENGTH_MAX
    ? rule
    : `${rule.slice(0, RULE_LENGTH_MAX)} …`;
}

/** What the hop did to the packet. */
function changeText({ before, after }: Hop): string {
  const changes = [
    destinationText(before) === destinationText(after)
      ? ""
      : `destination ${destinationText(before)} ⇒ ${destinationText(after)}`,
    before.source === after.source
      ? ""
      : `source ${before.source} ⇒ ${after.source}`,
    before.mark === after.mark
      ? ""
      : `mark ${hex(before.mark)} ⇒ ${hex(after.mark)}`,
  ];
  return changes.filter((text) => text !== "").join(", ");
}

function hex(mark: number): string {
  return `0x${mark.toString(16)}`;
}

function outcomeText({ outcome, packet }: Branch): string {
  return OUTCOME_TEXTS[outcome.kind](packet);
}

const OUTCOME_TEXTS: Readonly<
  Record<Outcome["kind"], (packet: Packet) => string>
> = {
  endpoint: (packet) =>
    `endpoint ${
      destinationText(packet)
    }, which sees ${packet.source} as its client`,
  refused: () => "refused: the client is told at once",
  dropped: () => "dropped: the client waits until it gives up",
  node: (packet) =>
    `no rule takes it: a process on the node that listens on ${
      destinationText(packet)
    }, else refused`,
  routed: (packet) =>
    `no rule takes it: the node's routes lead ${packet.destination} on, to nobody, and the client waits`,
};

function otherLines(shown: Branch, others: readonly Branch[]): string[] {
  const listed = others.slice(0, WAYS_MAX);
  const rest = others.slice(WAYS_MAX);
  return [
    `That was ${percent(shown.probability)} of connections; the others:`,
    ...listed.map((branch) =>
      `  ${percent(branch.probability).padStart(5)}  ${
        partingText(shown, branch)
      }`
    ),
    ...rest.length === 0 ? [] : [
      `  ${
        percent(rest.reduce((sum, each) => sum + each.probability, 0)).padStart(
          5,
        )
      }  ${rest.length} more`,
    ],
  ];
}

/** Where a way parts from the one that is shown, and where it ends. */
function partingText(shown: Branch, branch: Branch): string {
  const at = branch.hops.findIndex((hop, index) => {
    const other = shown.hops[index];
    return other === undefined || other.rule !== hop.rule ||
      other.chain !== hop.chain ||
      destinationText(other.after) !== destinationText(hop.after);
  });
  const hop = branch.hops[at];
  const where = hop === undefined ? "" : `${hop.table} ${hop.chain} → `;
  return branch.outcome.kind === "endpoint"
    ? `${where}${branch.outcome.endpoint}`
    : `${where}${outcomeText(branch)}`;
}

function percent(probability: number): string {
  const value = probability * 100;
  return `${
    value >= 10 || Number.isInteger(value)
      ? Math.round(value)
      : value.toFixed(1)
  } %`;
}
