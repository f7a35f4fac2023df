/**
 * An nftables program in the language of `nft -f`: a whole table as a block, and
 * the parts of which a running proxy makes single commands. Pure.
 *
 * @module
 */
import { formatHostPort } from "../../../ip.ts";
import type {
  NftChain,
  NftElement,
  NftField,
  NftHook,
  NftMatch,
  NftRule,
  NftSet,
  NftStatement,
  NftTable,
  NftVerdict,
} from "./program.ts";

type Family = NftTable["family"];

/**
 * The whole table as one transaction. It replaces a table of that name: packets
 * see the old one or the new one, and never none.
 */
export function tableText(table: NftTable): string {
  const spec = `${table.family} ${table.name}`;
  const blocks = [
    ...table.sets.map((set) => setBlock("set", set)),
    ...table.maps.map((map) => setBlock("map", map)),
    ...table.chains.map((chain) => chainBlock(chain, table.family)),
  ];
  return [
    `table ${spec}`,
    `delete table ${spec}`,
    `table ${spec} {`,
    `\tcomment ${quoted(table.comment)}`,
    blocks.map((lines) => lines.map((line) => `\t${line}\n`).join(""))
      .join("\n").trimEnd(),
    "}\n",
  ].join("\n");
}

function setBlock(kind: "set" | "map", set: NftSet): string[] {
  const lines = [`${kind} ${set.name} {`, ...setParts(kind, set).map(indent)];
  if (set.elements.length > 0) {
    const elements = set.elements.map(elementText);
    lines.push("\telements = {", `\t\t${elements.join(",\n\t\t\t")}`, "\t}");
  }
  return [...lines, "}"];
}

function indent(line: string): string {
  return `\t${line}`;
}

function chainBlock(chain: NftChain, family: Family): string[] {
  const { name, hook, comment, rules } = chain;
  return [
    `chain ${name} {`,
    ...hook === undefined ? [] : [`\t${hookText(hook)};`],
    ...comment === undefined ? [] : [`\tcomment ${quoted(comment)}`],
    ...rules.map((rule) => `\t${ruleText(rule, family)}`),
    "}",
  ];
}

/** What stands between the braces of `add set` or `add map`, without elements. */
export function setParts(kind: "set" | "map", set: NftSet): string[] {
  const value = kind === "map" ? " : verdict" : "";
  const parts = [`type ${set.type.join(" . ")}${value};`];
  if (set.comment !== undefined) parts.push(`comment ${quoted(set.comment)};`);
  if (set.timeoutSeconds !== undefined) {
    parts.push("flags dynamic,timeout;", `timeout ${set.timeoutSeconds}s;`);
  }
  return parts;
}

/** `type nat hook output priority -100; policy accept`. */
export function hookText({ type, hook, priority }: NftHook): string {
  return `type ${type} hook ${hook} priority ${priority}; policy accept`;
}

/** What stands between braces to add an element. */
export function elementText({ key, verdict, comment }: NftElement): string {
  const note = comment === undefined ? "" : ` comment ${quoted(comment)}`;
  const value = verdict === undefined ? "" : ` : ${verdictText(verdict)}`;
  return `${keyText(key)}${note}${value}`;
}

/** What stands between braces to remove one. */
export function keyText(key: readonly string[]): string {
  return key.join(" . ");
}

/** One line, as `nft` prints it. */
export function ruleText(
  { statements, comment }: NftRule,
  family: Family,
): string {
  const words = statements.map((each) => statementText(each, family));
  if (comment !== undefined) words.push(`comment ${quoted(comment)}`);
  return words.join(" ");
}

function statementText(statement: NftStatement, family: Family): string {
  switch (statement.kind) {
    case "match":
      return matchText(statement, family);
    case "look-up":
      return `${fieldsText(statement.fields, family)} vmap @${statement.map}`;
    case "choose": {
      const { verdicts } = statement;
      const cases = verdicts.map((each, i) => `${i} : ${verdictText(each)}`);
      return `numgen random mod ${cases.length} vmap { ${cases.join(", ")} }`;
    }
    case "dnat": {
      const { to } = statement;
      const cases = to.map(({ ip, port }, i) => `${i} : ${ip} . ${port}`);
      return `dnat ${family} to numgen random mod ${cases.length} map { ${
        cases.join(", ")
      } }`;
    }
    case "dnat-to":
      return `dnat to ${formatHostPort(statement.to.ip, statement.to.port)}`;
    case "set-mark": {
      const sign = statement.operation === "or" ? "|" : "^";
      return `meta mark set meta mark ${sign} ${hex(statement.bits)}`;
    }
    case "masquerade":
      return "masquerade fully-random";
    case "remember-source":
      return `update @${statement.set} { ${family} saddr }`;
    case "verdict":
      return verdictText(statement.verdict);
  }
}

function matchText(
  { fields, mask, isNot = false, of }: NftMatch,
  family: Family,
): string {
  const left = fieldsText(fields, family) +
    (mask === undefined ? "" : ` & ${hex(mask)}`);
  const isName = fields[0] === "iifname";
  return `${left} ${isNot ? "!= " : ""}${operandText(of, isName)}`;
}

function operandText(of: NftMatch["of"], isName: boolean): string {
  if ("set" in of) return `@${of.set}`;
  if ("bits" in of) return hex(of.bits);
  const values = isName ? of.values.map(quoted) : of.values;
  const [first = "", ...more] = values;
  return more.length === 0 ? first : `{ ${values.join(", ")} }`;
}

function fieldsText(fields: readonly NftField[], family: Family): string {
  return fields.map((field) => fieldText(field, family)).join(" . ");
}

function fieldText(field: NftField, family: Family): string {
  switch (field) {
    case "saddr":
    case "daddr":
      return `${family} ${field}`;
    case "l4proto":
    case "mark":
      return `meta ${field}`;
    case "dport":
      return "th dport";
    case "saddr type":
    case "daddr type":
      return `fib ${field}`;
    case "iifname":
    case "ct state":
    case "ct status":
      return field;
  }
}

function verdictText(verdict: NftVerdict): string {
  return "chain" in verdict
    ? `${verdict.verdict} ${verdict.chain}`
    : verdict.verdict;
}

function hex(bits: number): string {
  return `0x${bits.toString(16).padStart(8, "0")}`;
}

/** Longest comment that the kernel keeps with an element, in bytes. */
const COMMENT_BYTES = 128;

/**
 * Names in comments come from an API server, which checks them, or from files,
 * which nobody did: what could end the quotes is left out.
 */
export function quoted(text: string): string {
  const safe = text.replaceAll(/[^\x20-\x7e]|["\\]/g, "?");
  return `"${safe.slice(0, COMMENT_BYTES)}"`;
}
