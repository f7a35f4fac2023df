/**
 * Single commands of a transaction, as a running proxy sends them: one a line.
 * Pure.
 *
 * @module
 */
import type {
  NftChain,
  NftElement,
  NftRule,
  NftSet,
  NftTable,
} from "./program.ts";
import type { PlacedElement } from "./table_parts.ts";
import {
  elementText,
  hookText,
  keyText,
  quoted,
  ruleText,
  setParts,
} from "./text.ts";

type Kind = "set" | "map";

export class Commands {
  readonly #family: NftTable["family"];
  /** `ip kube-proxy`. */
  readonly #spec: string;

  constructor({ family, name }: Pick<NftTable, "family" | "name">) {
    this.#family = family;
    this.#spec = `${family} ${name}`;
  }

  addTable(comment: string): string {
    return `add table ${this.#spec} { comment ${quoted(comment)}; }`;
  }

  /** Empties all chains; they stay. */
  flushTable(): string {
    return `flush table ${this.#spec}`;
  }

  /** Whether it is there or not: adding one that is changes nothing. */
  removeTable(): string[] {
    return [`add table ${this.#spec}`, `delete table ${this.#spec}`];
  }

  /** Without its rules; does nothing where it is there. */
  addChain({ name, hook, comment }: NftChain): string {
    const parts = [
      ...hook === undefined ? [] : [`${hookText(hook)};`],
      ...comment === undefined ? [] : [`comment ${quoted(comment)};`],
    ];
    const body = parts.length === 0 ? "" : ` { ${parts.join(" ")} }`;
    return `add chain ${this.#spec} ${name}${body}`;
  }

  flushChain(name: string): string {
    return `flush chain ${this.#spec} ${name}`;
  }

  deleteChain(name: string): string {
    return `delete chain ${this.#spec} ${name}`;
  }

  addRule(chain: string, rule: NftRule): string {
    return `add rule ${this.#spec} ${chain} ${ruleText(rule, this.#family)}`;
  }

  /** Without its elements; where it is there, gives it this time-out. */
  addSet(kind: Kind, set: NftSet): string {
    const parts = setParts(kind, set).join(" ");
    return `add ${kind} ${this.#spec} ${set.name} { ${parts} }`;
  }

  deleteSet(kind: Kind, name: string): string {
    return `delete ${kind} ${this.#spec} ${name}`;
  }

  addElement(of: string, element: NftElement): string {
    return `add element ${this.#spec} ${of} { ${elementText(element)} }`;
  }

  deleteElement({ of, element }: PlacedElement): string {
    return `delete element ${this.#spec} ${of} { ${keyText(element.key)} }`;
  }
}
