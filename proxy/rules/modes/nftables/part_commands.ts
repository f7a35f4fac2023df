/**
 * Parts of the table that are different now, as commands of one transaction, in
 * an order that the kernel takes: what is referred to exists when a reference
 * comes, and nothing refers to what goes. Pure.
 *
 * @module
 */
import type { Commands } from "./commands.ts";
import type { PlacedElement, TablePart } from "./table_parts.ts";
import { elementText, keyText } from "./text.ts";

/** A part as it was and as it is now; not there where it is missing. */
export interface PartChange {
  readonly before: TablePart | undefined;
  readonly after: TablePart | undefined;
}

/** Commands by the step of the transaction that they belong to, in that order. */
export interface Steps {
  /** Chains and sets that are new. */
  readonly added: string[];
  readonly flushed: string[];
  readonly elementsDeleted: string[];
  readonly elementsAdded: string[];
  readonly rules: string[];
  readonly setsDeleted: string[];
}

/** Sorted into steps; `inOneTransaction` puts them in line. */
export function partCommands(
  changes: readonly PartChange[],
  commands: Commands,
): Steps {
  const steps: Steps = {
    added: [],
    flushed: [],
    elementsDeleted: [],
    elementsAdded: [],
    rules: [],
    setsDeleted: [],
  };
  for (const change of changes) {
    chainCommands(change, { steps, commands });
    setCommands(change, { steps, commands });
    elementCommands(change, { steps, commands });
  }
  return steps;
}

/** The order in which no command refers to what is not there. */
export function inOneTransaction(steps: Steps): string[] {
  return [
    ...steps.added,
    ...steps.flushed,
    ...steps.elementsDeleted,
    ...steps.elementsAdded,
    ...steps.rules,
    ...steps.setsDeleted,
  ];
}

interface Out {
  readonly steps: Steps;
  readonly commands: Commands;
}

function chainCommands(
  { before, after }: PartChange,
  { steps, commands }: Out,
): void {
  const was = before?.kind === "chain" ? before.chain : undefined;
  const is = after?.kind === "chain" ? after.chain : undefined;
  const lines = (chain: typeof was) =>
    chain?.rules.map((rule) => commands.addRule(chain.name, rule)) ?? [];
  const rules = lines(is);
  if (was !== undefined) {
    if (is !== undefined && isSame(lines(was), rules)) return;
    steps.flushed.push(commands.flushChain(was.name));
  } else if (is !== undefined) steps.added.push(commands.addChain(is));
  steps.rules.push(...rules);
}

function setCommands(
  { before, after }: PartChange,
  { steps, commands }: Out,
): void {
  const was = before?.kind === "set" ? before.set : undefined;
  const is = after?.kind === "set" ? after.set : undefined;
  if (is !== undefined) {
    // Of one that is there, this changes the time-out, in kernels that can.
    if (was?.timeoutSeconds !== is.timeoutSeconds) {
      steps.added.push(commands.addSet("set", is));
    }
  } else if (was !== undefined) {
    steps.setsDeleted.push(commands.deleteSet("set", was.name));
  }
}

/** A verdict that changes is deleted and added: the kernel knows no other way. */
function elementCommands(
  { before, after }: PartChange,
  { steps, commands }: Out,
): void {
  const was = elementsOf(before);
  const is = elementsOf(after);
  for (const [place, element] of was) {
    const next = is.get(place);
    if (next !== undefined && isSameElement(element, next)) is.delete(place);
    else steps.elementsDeleted.push(commands.deleteElement(element));
  }
  for (const { of, element } of is.values()) {
    steps.elementsAdded.push(commands.addElement(of, element));
  }
}

function elementsOf(part: TablePart | undefined): Map<string, PlacedElement> {
  const elements = part?.kind === "elements" ? part.elements : [];
  return new Map(
    elements.map((each) => [`${each.of} ${keyText(each.element.key)}`, each]),
  );
}

function isSameElement(a: PlacedElement, b: PlacedElement): boolean {
  return elementText(a.element) === elementText(b.element);
}

function isSame(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((line, i) => line === b[i]);
}

/** Rules and elements in a part. */
export function partSize(part: TablePart | undefined): number {
  switch (part?.kind) {
    case "chain":
      return part.chain.rules.length;
    case "elements":
      return part.elements.length;
    default:
      return 0;
  }
}
