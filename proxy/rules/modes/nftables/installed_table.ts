/**
 * One table as the kernel should have it by now, and the commands that make a
 * change of it: of one Service, only its own chains and elements; or everything,
 * whatever is there (facts 9.9, 10.35, 10.39). Each list of commands is one
 * transaction: packets see what was before or what is after. Pure;
 * `nftables_programmer.ts` runs it.
 *
 * Chains that nobody wants any more are emptied first, and deleted later by a
 * transaction of their own: kernels refuse to delete a chain together with the
 * last element that leads to it.
 *
 * @module
 */
import type { ModeInput, ModePort } from "../mode_input.ts";
import { baseTable } from "./base.ts";
import { Commands } from "./commands.ts";
import { wholeTable } from "./compile.ts";
import { type ExistingTable, NO_TABLE } from "./listing.ts";
import { portParts } from "./port_parts.ts";
import type { NftTable } from "./program.ts";
import { type TablePart, TableParts } from "./table_parts.ts";
import {
  inOneTransaction,
  type PartChange,
  partCommands,
  partSize,
  type Steps,
} from "./part_commands.ts";

export class InstalledTable {
  #base: NftTable;
  readonly #commands: Commands;
  #parts = new TableParts();
  /** Service key → its ServicePorts, as they were told. */
  readonly #portsOf = new Map<string, Map<string, ModePort>>();
  /** Part key → the part, as the kernel has it. */
  readonly #installed = new Map<string, TablePart>();
  readonly #unwanted = new Set<string>();
  #size = 0;

  constructor(input: ModeInput) {
    this.#base = baseTable(input);
    this.#commands = new Commands(this.#base);
  }

  /** Rules and elements, those of the base included. */
  get size(): number {
    return this.#size;
  }

  /** Names of chains that are empty by now, and that nothing leads to. */
  get unwantedChains(): ReadonlySet<string> {
    return this.#unwanted;
  }

  /** Everything that is wanted, as one table. */
  get table(): NftTable {
    return wholeTable(this.#base, [...this.#installed.values()]);
  }

  /** The commands for these Services, and no others. */
  change(input: ModeInput, services: ReadonlySet<string>): string[] {
    const touched = new Set<string>();
    const portsOf = Map.groupBy(
      input.ports.filter((port) => services.has(serviceKey(port))),
      serviceKey,
    );
    for (const service of services) {
      const keys = this.#tell(service, { input, ports: portsOf.get(service) });
      for (const key of keys) touched.add(key);
    }
    const changes: PartChange[] = [];
    for (const key of touched) {
      const change = this.#take(key);
      if (change !== undefined) changes.push(change);
    }
    return inOneTransaction(partCommands(changes, this.#commands));
  }

  /**
   * The commands for everything, over what is there, as transactions. Sets that
   * remember clients stay, so that clients stay where they are. Where nothing is
   * there several transactions make ready what only the last one leads to: the
   * kernel's work for one grows with the square of its length.
   */
  replace(input: ModeInput, existing: ExistingTable = NO_TABLE): string[][] {
    this.#parts = new TableParts();
    this.#portsOf.clear();
    this.#installed.clear();
    this.#unwanted.clear();
    this.#base = baseTable(input);
    this.#size = sizeOf(this.#base);
    const portsOf = Map.groupBy(input.ports, serviceKey);
    for (const [service, ports] of portsOf) {
      this.#tell(service, { input, ports });
    }
    const added = this.#parts.all().flatMap(({ key }) => this.#take(key) ?? []);
    const steps = partCommands(added, this.#commands);
    if (existing.chains.size === 0) return this.#inTurn(steps);
    const wanted = new Set(this.table.chains.map(({ name }) => name));
    for (const name of existing.chains.keys()) {
      if (wanted.has(name) || existing.baseChains.has(name)) continue;
      this.#unwanted.add(name);
    }
    return [[
      ...this.#clear(existing),
      ...this.#baseFrame(),
      ...inOneTransaction(steps),
      ...this.#baseContents(),
      ...this.#staleSets(existing),
    ]];
  }

  /** Into an empty table, or none. */
  #inTurn(steps: Steps): string[][] {
    const transactions = [[
      this.#commands.addTable(this.#base.comment),
      ...this.#baseFrame(),
      ...steps.added,
    ]];
    for (let at = 0; at < steps.rules.length; at += TRANSACTION_RULES) {
      transactions.push(steps.rules.slice(at, at + TRANSACTION_RULES));
    }
    const last = [...steps.elementsAdded, ...this.#baseContents()];
    // Of a small cluster it is one transaction, as upstream's is.
    return transactions.length > 2
      ? [...transactions, last]
      : [[...transactions.flat(), ...last]];
  }

  /** Chains that were deleted, or that are somebody's business no more. */
  forgetUnwanted(names: Iterable<string>): void {
    for (const name of names) this.#unwanted.delete(name);
  }

  /** @returns keys of the parts that may be different now */
  #tell(
    service: string,
    { input, ports = [] }: {
      input: ModeInput;
      ports?: readonly ModePort[] | undefined;
    },
  ): Set<string> {
    const before = this.#portsOf.get(service) ?? new Map<string, ModePort>();
    const touched = new Set<string>();
    const told = new Map<string, ModePort>();
    for (const port of ports) {
      told.set(port.servicePort.key, port);
      const keys = this.#parts.set(port.servicePort, portParts(port, input));
      for (const key of keys) touched.add(key);
    }
    for (const [key, { servicePort }] of before) {
      if (told.has(key)) continue;
      for (const part of this.#parts.set(servicePort, [])) touched.add(part);
    }
    if (told.size === 0) this.#portsOf.delete(service);
    else this.#portsOf.set(service, told);
    return touched;
  }

  /** Notes a part as installed as it is wanted now. */
  #take(key: string): PartChange | undefined {
    const before = this.#installed.get(key);
    const after = this.#parts.get(key);
    if (before === undefined && after === undefined) return undefined;
    if (after === undefined) this.#installed.delete(key);
    else this.#installed.set(key, after);
    this.#size += partSize(after) - partSize(before);
    for (const part of [before, after]) {
      if (part?.kind !== "chain") continue;
      if (after === undefined) this.#unwanted.add(part.chain.name);
      else this.#unwanted.delete(part.chain.name);
    }
    return { before, after };
  }

  /**
   * An earlier table loses its rules and its maps. Base chains are made anew,
   * since an older version may have hung them elsewhere.
   */
  #clear({ sets, maps, baseChains }: ExistingTable): string[] {
    const commands = this.#commands;
    const kept = (name: string) => name.startsWith(AFFINITY_PREFIX);
    return [
      commands.addTable(this.#base.comment),
      commands.flushTable(),
      ...[...baseChains].map((name) => commands.deleteChain(name)),
      ...[...maps].map((name) => commands.deleteSet("map", name)),
      ...[...sets].filter((name) => !kept(name))
        .map((name) => commands.deleteSet("set", name)),
    ];
  }

  #staleSets({ sets }: ExistingTable): string[] {
    return [...sets]
      .filter((name) =>
        name.startsWith(AFFINITY_PREFIX) && !this.#installed.has(`set ${name}`)
      )
      .map((name) => this.#commands.deleteSet("set", name));
  }

  #baseFrame(): string[] {
    const { sets, maps, chains } = this.#base;
    const commands = this.#commands;
    return [
      ...chains.map((chain) => commands.addChain(chain)),
      ...sets.map((set) => commands.addSet("set", set)),
      ...maps.map((map) => commands.addSet("map", map)),
    ];
  }

  #baseContents(): string[] {
    const { sets, chains } = this.#base;
    const commands = this.#commands;
    return [
      ...sets.flatMap(({ name, elements }) =>
        elements.map((element) => commands.addElement(name, element))
      ),
      ...chains.flatMap(({ name, rules }) =>
        rules.map((rule) => commands.addRule(name, rule))
      ),
    ];
  }
}

/** How many rules one transaction takes where there can be several. */
const TRANSACTION_RULES = 500;

const AFFINITY_PREFIX = "affinity-";

function serviceKey({ servicePort }: ModePort): string {
  return `${servicePort.namespace}/${servicePort.name}`;
}

function sizeOf({ sets, chains }: NftTable): number {
  return sets.reduce((sum, { elements }) => sum + elements.length, 0) +
    chains.reduce((sum, { rules }) => sum + rules.length, 0);
}
