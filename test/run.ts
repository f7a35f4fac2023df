/**
 * All of the tests, as `deno task test` runs them: format, lint, types, then
 * every `*_test.ts`. Prints what was skipped and why, and ends with one line
 * `N passed, N failed, N skipped`, counted from the runner's own report.
 *
 * With `CI` set, a skip that `.ci/expected-skips` does not name fails the run.
 *
 * @module
 */
import { print, printError } from "../proxy/commands/terminal.ts";

const REPORT = ".ci/out/junit.xml";
const APART_REPORT = ".ci/out/junit-apart.xml";
const EXPECTED_SKIPS = ".ci/expected-skips";

/**
 * Tests that are all in networks of their own, or in a virtual machine: half of
 * the time. They are a run of their own beside the others, since most tests wait
 * more than they compute.
 */
const APART = ["test/netns", "test/guest"];

/** A run that hangs is a run that failed: all of it takes ten minutes. */
const RUN_TIMEOUT_MS = 45 * 60_000;
const LAST_WORDS_MS = 1_000;

/** What it prints is shown as it comes, or, beside another run, at its end. */
async function run(
  args: readonly string[],
  { beside = false } = {},
): Promise<boolean> {
  const title = `\n$ deno ${args.join(" ")}\n`;
  if (!beside) printError(title);
  const output = beside ? "piped" : "inherit";
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    stdin: "null",
    stdout: output,
    stderr: output,
  }).spawn();
  const late = setTimeout(() => {
    printError(`Not done after ${RUN_TIMEOUT_MS / 60_000} minutes; killed\n`);
    child.kill("SIGKILL");
  }, RUN_TIMEOUT_MS);
  const printed: string[] = [];
  const read = beside
    ? [child.stdout, child.stderr].map((stream) => collect(stream, printed))
    : [];
  const { success } = await child.status;
  clearTimeout(late);
  // What a test left running may hold the pipes open for ever.
  await Promise.race([Promise.all(read), delay(LAST_WORDS_MS)]);
  if (beside) printError([title, ...printed].join(""));
  return success;
}

async function collect(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  texts: string[],
): Promise<void> {
  const decoded = stream.pipeThrough(new TextDecoderStream());
  for await (const text of decoded) texts.push(text);
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Every test, or those that the arguments name. */
async function runTests(named: readonly string[]): Promise<boolean> {
  const command = ["test", "-A", "--quiet"];
  if (named.length > 0) {
    return await run([...command, `--junit-path=${REPORT}`, ...named]);
  }
  const apart = run(
    [...command, `--junit-path=${APART_REPORT}`, ...APART],
    { beside: true },
  );
  const others = await run([
    ...command,
    `--junit-path=${REPORT}`,
    `--ignore=${APART.join(",")}`,
  ]);
  return await apart && others;
}

interface Counts {
  passed: number;
  failed: number;
  /** Names of the tests, each with its reason at the end. */
  skipped: string[];
}

/** Reads the runner's JUnit report; steps of a test are not counted apart. */
function countTests(report: string): Counts {
  const counts: Counts = { passed: 0, failed: 0, skipped: [] };
  const cases = [...report.matchAll(
    /<testcase name="([^"]*)"[^>]*?(?:\/>|>([\s\S]*?)<\/testcase>)/g,
  )].map(([, name = "", contents = ""]) => ({ name: plain(name), contents }));
  const names = new Set(cases.map(({ name }) => name));
  for (const { name, contents } of cases) {
    if (isStep(name, names)) continue;
    if (contents.includes("<skipped")) counts.skipped.push(name);
    else if (/<(failure|error)/.test(contents)) counts.failed++;
    else counts.passed++;
  }
  return counts;
}

/** A step is reported as a case named `its test > itself`. */
function isStep(name: string, names: ReadonlySet<string>): boolean {
  for (
    let at = name.indexOf(" > ");
    at !== -1;
    at = name.indexOf(" > ", at + 1)
  ) {
    if (names.has(name.slice(0, at))) return true;
  }
  return false;
}

function plain(xml: string): string {
  return xml.replaceAll("&quot;", '"').replaceAll("&apos;", "'")
    .replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&amp;", "&");
}

/** Lines of `.ci/expected-skips`: a text that the skipped test's name holds. */
function expectedSkips(): string[] {
  return Deno.readTextFileSync(EXPECTED_SKIPS).split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "" && !line.startsWith("#"))
    .map((line) => line.split("\t")[0]?.trim() ?? line);
}

async function main(): Promise<number> {
  await Deno.mkdir(".ci/out", { recursive: true });
  const checks: readonly (readonly string[])[] = [
    ["fmt", "--check", "--quiet"],
    ["lint", "--quiet"],
    ["check", "--quiet", "."],
  ];
  let failed = 0;
  for (const check of checks) if (!await run(check)) failed++;
  const reports = [REPORT, APART_REPORT];
  for (const report of reports) await Deno.remove(report).catch(() => {});
  const green = await runTests(Deno.args);
  const texts = await Promise.all(
    reports.map((report) => Deno.readTextFile(report).catch(() => "")),
  );
  const counts = countTests(texts.join("\n"));
  failed += counts.failed;
  // The runner can fail without a failed test: a module that does not load. And
  // no test at all is no success, whatever the runner thinks of it.
  if (counts.failed === 0 && (!green || counts.passed === 0)) failed++;
  for (const name of counts.skipped) print(`SKIPPED ${name}\n`);
  if (Deno.env.get("CI") !== undefined) {
    const expected = expectedSkips();
    const unexpected = counts.skipped.filter((name) =>
      !expected.some((text) => name.includes(text))
    );
    for (const name of unexpected) {
      print(`FAILED ${name}: skipped, and not in ${EXPECTED_SKIPS}\n`);
    }
    failed += unexpected.length;
  }
  const passed = counts.passed + checks.length;
  print(
    `${passed} passed, ${failed} failed, ${counts.skipped.length} skipped\n`,
  );
  return failed === 0 ? 0 : 1;
}

if (import.meta.main) Deno.exit(await main());
