/**
 * Writes `proxy/BEHAVIOURS.md`: every fact about kube-proxy that this project
 * holds itself to, in a few words, and the files whose tests show it. Facts are
 * in `test/fixture/behaviours.tsv`; a test shows a fact by naming its number at
 * the start of its name: `[5.16] …`, `[1.15, 1.16] …`.
 *
 *     deno run --allow-read --allow-write test/behaviours.ts
 *
 * @module
 */

/** One line of the table of facts. */
export interface Fact {
  /** `5.16`: section and number. */
  readonly number: string;
  /** `U`: exactly; `U~`: by another mechanism; `C`: control; `e2e`: its tests. */
  readonly tag: string;
  readonly text: string;
  /** Why we do otherwise; empty where we do not. */
  readonly differs: string;
  /** Why no test of ours can show it, whose work it is; empty where one can. */
  readonly notOurs: string;
}

const ROOT = new URL("../", import.meta.url);
const FACTS = new URL("test/fixture/behaviours.tsv", ROOT);
export const BEHAVIOURS: URL = new URL("proxy/BEHAVIOURS.md", ROOT);

const SECTIONS: Readonly<Record<string, string>> = {
  "0": "What follows from all of it",
  "1": "Services",
  "2": "EndpointSlices",
  "3": "Load balancing",
  "4": "Session affinity",
  "5": "Traffic policies and topology",
  "6": "NodePort, external IPs, load balancers",
  "7": "Health and metrics",
  "8": "Configuration and process",
  "9": "Sync timing",
  "10": "What kernel modes program, and stale UDP flows",
  "12": "Kubernetes' own end-to-end tests",
};

/** @throws {SyntaxError} for a line that is no fact */
export function parseFacts(text: string): Fact[] {
  return text.trimEnd().split("\n").map((line) => {
    const [number = "", tag = "", words = "", note = ""] = line.split("\t");
    if (!/^\d+\.\d+$/.test(number) || words === "") {
      throw new SyntaxError(`Cannot read fact "${line}"`);
    }
    const [, kind, reason = ""] = /^(differs|not ours): (.+)$/.exec(note) ?? [];
    if (note !== "" && kind === undefined) {
      throw new SyntaxError(`Cannot read the note of fact "${line}"`);
    }
    return {
      number,
      tag,
      text: words,
      differs: kind === "differs" ? reason : "",
      notOurs: kind === "not ours" ? reason : "",
    };
  });
}

/**
 * The numbers in the names of the tests in a file, and in rows of tables whose
 * `facts` become names.
 */
export function factsNamedIn(source: string): string[] {
  const names = source.matchAll(
    /(?:["'`]\[|\bfacts: ")(\d+\.\d+(?:, \d+\.\d+)*)(?:\] |")/g,
  );
  const numbers = [...names].flatMap(([, list = ""]) => list.split(", "));
  return [...new Set(numbers)];
}

/** Path below `test/` → numbers of facts, for every file with tests. */
function factsByFile(): Map<string, string[]> {
  const found = new Map<string, string[]>();
  const visit = (folder: string) => {
    for (const entry of Deno.readDirSync(new URL(`test/${folder}`, ROOT))) {
      const path = `${folder}${entry.name}`;
      if (entry.isDirectory) visit(`${path}/`);
      // Its own tests hold examples.
      else if (path === "behaviours_test.ts") continue;
      else if (
        path.endsWith("_test.ts") ||
        path.startsWith("conformance/") && path.endsWith(".ts")
      ) {
        const source = Deno.readTextFileSync(new URL(`test/${path}`, ROOT));
        found.set(path, factsNamedIn(source));
      }
    }
  };
  visit("");
  return new Map([...found].sort(([a], [b]) => a < b ? -1 : 1));
}

/** Facts named by tests that the table does not have: slips of the pen. */
export function unknownFacts(): string[] {
  const known = new Set(readFacts().map(({ number }) => number));
  return [...factsByFile()].flatMap(([path, numbers]) =>
    numbers.filter((number) => !known.has(number))
      .map((number) => `test/${path}: ${number}`)
  );
}

function readFacts(): Fact[] {
  return parseFacts(Deno.readTextFileSync(FACTS));
}

function compareNumbers(a: Fact, b: Fact): number {
  const [major = 0, minor = 0] = a.number.split(".").map(Number);
  const [otherMajor = 0, otherMinor = 0] = b.number.split(".").map(Number);
  return major - otherMajor || minor - otherMinor;
}

/** The whole text of `proxy/BEHAVIOURS.md`, as the tests stand now. */
export function behaviours(): string {
  const files = new Map<string, string[]>();
  for (const [path, numbers] of factsByFile()) {
    for (const number of numbers) {
      files.set(number, [...files.get(number) ?? [], path]);
    }
  }
  const facts = readFacts().sort(compareNumbers);
  const shown = facts.filter(({ number }) => files.has(number));
  const untested = facts.filter(({ number }) => !files.has(number));
  const others = untested.filter(({ notOurs }) => notOurs !== "");
  const open = untested.filter(({ notOurs }) => notOurs === "");
  const sections = Object.entries(SECTIONS).flatMap(([section, title]) => {
    const own = shown.filter(({ number }) => number.startsWith(`${section}.`));
    return own.length === 0 ? [] : [
      `\n## ${section}. ${title}\n\n`,
      "| fact | tag | what it says | differs | tests |\n",
      "| --- | --- | --- | --- | --- |\n",
      ...own.map((fact) => `${cells(fact)} ${links(files, fact)} |\n`),
    ];
  });
  return [
    PREFACE,
    `\n${shown.length} of ${facts.length} facts have a test; ` +
    `${others.length} are not ours to show.\n`,
    ...sections,
    ...(others.length === 0 ? [] : [
      "\n## Not ours\n\nWhat others do, so that no test of a proxy shows it.\n\n",
      "| fact | tag | what it says | whose it is |\n| --- | --- | --- | --- |\n",
      ...others.map(({ number, tag, text, notOurs }) =>
        `| ${number} | ${tag} | ${text} | ${notOurs} |\n`
      ),
    ]),
    ...(open.length === 0 ? [] : [
      "\n## Not yet\n\nNo test names these.\n\n",
      "| fact | tag | what it says | differs |\n| --- | --- | --- | --- |\n",
      ...open.map((fact) => `${cells(fact)}\n`),
    ]),
  ].join("");
}

function cells({ number, tag, text, differs }: Fact): string {
  return `| ${number} | ${tag} | ${text} | ${differs} |`;
}

function links(files: ReadonlyMap<string, string[]>, { number }: Fact): string {
  return (files.get(number) ?? []).map((path) =>
    `[${path.replace(/(_test)?\.ts$/, "")}](../test/${path})`
  ).join(", ");
}

const PREFACE = `<!-- deno-fmt-ignore-file -->

# What kube-proxy does, and which test shows that we do it

Made by \`deno run --allow-read --allow-write test/behaviours.ts\`; do not edit.

Comments in the code and names of tests speak of facts by these numbers. \`U\`: we
do exactly what kube-proxy 1.36 does. \`U~\`: what a client sees is the same, the
mechanism is another. \`R\`: what a kernel mode programs. \`C\`: what an operator
sees. \`e2e\`: what one of Kubernetes' end-to-end tests asks for. Where we do otherwise on purpose, "differs" says how.
A test of pure code shows the decision; that packets follow it, tests with
sockets, namespaces or a whole program show.
`;

if (import.meta.main) Deno.writeTextFileSync(BEHAVIOURS, behaviours());
