/**
 * What `kube-portal doctor` finds, and how it is printed. Pure.
 *
 * @module
 */

/**
 * `ok`: as it should be. `warn`: it runs, and does less or other than it could.
 * `fail`: it would not work.
 */
export type Level = "ok" | "warn" | "fail";

export interface Finding {
  /** What was looked at, in a word or two. */
  readonly check: string;
  readonly level: Level;
  /** One line. */
  readonly found: string;
  /** What to do; missing where there is nothing to do. */
  readonly advice?: string;
}

/** One line for each, and one more for what to do; then how many are not ok. */
export function findingsText(findings: readonly Finding[]): string {
  const width = Math.max(...findings.map(({ check }) => check.length));
  const lines = findings.map(({ check, level, found, advice }) => {
    const indent = " ".repeat(INDENT + width);
    return `${level.padEnd(4)}  ${check.padEnd(width)}  ${found}\n` +
      (advice === undefined ? "" : `${indent}→ ${advice}\n`);
  });
  const count = (level: Level) =>
    findings.filter((finding) => finding.level === level).length;
  const end = count("fail") + count("warn") === 0
    ? "All is well."
    : `${count("fail")} failed, ${count("warn")} to know about, ${
      count("ok")
    } ok.`;
  return `${lines.join("")}\n${end}\n`;
}

/** The level and the two gaps before a line's last column. */
const INDENT = 8;
