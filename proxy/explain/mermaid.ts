/**
 * An explanation as a Mermaid flow chart, which GitHub and many editors draw:
 * chains are boxes, rules are arrows, and ways that are the same so far share
 * them. In: an explanation. Out: the text of the chart. Pure.
 *
 * @module
 */
import { connectionText, type Explanation } from "./mod.ts";
import { type Branch, destinationText, type Hop } from "./packet.ts";

/** More ways than that are no picture any more. */
const WAYS_MAX = 12;

interface Box {
  readonly id: string;
  /** Rule and chain → the box it leads to. */
  readonly next: Map<string, Box>;
}

/** At most 12 ways; how many more there are is said. */
export function mermaid(explanation: Explanation): string {
  const { connection, branches } = explanation;
  const lines = ["flowchart TD"];
  let count = 0;
  const box = (label: string, [open, close] = ["[", "]"]): Box => {
    const id = `n${count++}`;
    lines.push(`  ${id}${open}"${escaped(label)}"${close}`);
    return { id, next: new Map() };
  };
  const start = box(connectionText(connection), ["([", "])"]);
  for (const branch of branches.slice(0, WAYS_MAX)) {
    let at = start;
    for (const hop of branch.hops) {
      const key = `${hop.hook} ${hop.table} ${hop.chain} ${hop.rule} ${
        destinationText(hop.after)
      }`;
      let to = at.next.get(key);
      if (to === undefined) {
        to = box(`${hop.hook} · ${hop.table}\n${hop.chain}`);
        lines.push(`  ${at.id} --> ${to.id}`);
        const rule = box(ruleLabel(hop), ["[/", "/]"]);
        lines.push(`  ${to.id} -->${chanceLabel(hop)} ${rule.id}`);
        to = rule;
        at.next.set(key, to);
      }
      at = to;
    }
    const end = box(endLabel(branch), ["([", "])"]);
    lines.push(`  ${at.id} --> ${end.id}`);
  }
  const left = branches.length - WAYS_MAX;
  if (left > 0) {
    const more = box(`${left} more ways`, ["([", "])"]);
    lines.push(`  ${start.id} -.-> ${more.id}`);
  }
  return lines.join("\n") + "\n";
}

const LABEL_LENGTH_MAX = 80;

function ruleLabel({ rule, comment, before, after }: Hop): string {
  const changed = destinationText(before) === destinationText(after)
    ? ""
    : `\n${destinationText(before)} ⇒ ${destinationText(after)}`;
  const said = comment === "" ? "" : `\n${comment}`;
  return rule.slice(0, LABEL_LENGTH_MAX) +
    (rule.length > LABEL_LENGTH_MAX ? " …" : "") + said + changed;
}

function chanceLabel({ probability }: Hop): string {
  return probability < 1 ? `|${Math.round(probability * 100)} %|` : "";
}

function endLabel({ outcome }: Branch): string {
  switch (outcome.kind) {
    case "endpoint":
      return `endpoint ${outcome.endpoint}`;
    case "node":
      return "a process of the node";
    case "routed":
      return "led on by the node's routes";
    default:
      return outcome.kind;
  }
}

/**
 * What would end a label, or be taken for a tag or an entity, by characters that
 * look alike: not every renderer decodes Mermaid's own codes (`#35;`).
 */
const LOOK_ALIKES: Readonly<Record<string, string>> = {
  '"': "'",
  "<": "‹",
  ">": "›",
  "#": "＃",
  "&": "＆",
};

function escaped(label: string): string {
  return label
    .replaceAll(
      /["<>#]|&(?=[#\w])/g,
      (character) => LOOK_ALIKES[character] ?? "",
    )
    .replaceAll(/\p{Cc}/gu, (character) => character === "\n" ? "<br/>" : "");
}
