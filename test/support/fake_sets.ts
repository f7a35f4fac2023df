/**
 * A kernel's sets as `ipset -exist restore` changes and `ipset save` shows them.
 *
 * @module
 */

export class FakeSets {
  /** Set → how it was made, and its elements, each with its comment. */
  readonly #sets = new Map<
    string,
    { readonly made: string; readonly elements: Map<string, string> }
  >();

  /** @throws {Error} for what the kernel does not take */
  run(lines: readonly string[]): void {
    for (const line of lines) {
      const [verb = "", name = "", ...rest] = line.split(" ");
      const set = this.#sets.get(name);
      if (verb === "create") {
        const made = rest.join(" ").replace(
          " maxelem",
          " hashsize 1024 maxelem",
        );
        if (set === undefined) {
          this.#sets.set(name, { made, elements: new Map() });
        }
        continue;
      }
      if (set === undefined) throw new Error(`No such set: ${line}`);
      const [entry = "", ...comment] = rest;
      if (verb === "add") set.elements.set(entry, comment.join(" "));
      else if (verb === "del") set.elements.delete(entry);
      else if (verb === "destroy") this.#sets.delete(name);
      else throw new SyntaxError(line);
    }
  }

  save(): string {
    return [...this.#sets].flatMap(([name, { made, elements }]) => [
      `create ${name} ${made} bucketsize 12 initval 0x8843cdaa`,
      ...[...elements].map(([entry, comment]) =>
        `add ${name} ${entry} ${comment}`.trim()
      ),
      "",
    ]).join("\n");
  }

  /** All sets are destroyed. */
  clear(): void {
    this.#sets.clear();
  }
}
