/**
 * Series and verdicts as tables of Markdown, for a terminal and for a README.
 * Pure.
 *
 * @module
 */
import type { Verdict } from "./goals.ts";
import { best, find, median, ratio, type Series } from "./samples.ts";

/**
 * One measure: a row for each subject; for each metric its median, and how many
 * times that of a direct connection and of the better peer it is.
 */
export function measureTable(
  series: readonly Series[],
  peers: readonly string[],
): string {
  const subjects = [...new Set(series.map(({ subject }) => subject))];
  const metrics = [...new Set(series.map(({ metric }) => metric))];
  const headings = ["subject"];
  const rows = subjects.map((subject) => [subject]);
  for (const metric of metrics) {
    const ofMetric = series.filter((one) => one.metric === metric);
    const { unit, measure } = ofMetric[0]!;
    const direct = find(series, { measure, metric, subject: "direct" });
    const peer = best(ofMetric.filter((one) => peers.includes(one.subject)));
    headings.push(`${metric}, ${unit}`);
    if (direct !== undefined) headings.push("× direct");
    if (peer !== undefined) headings.push("× better peer");
    for (const [index, subject] of subjects.entries()) {
      const one = ofMetric.find((one) => one.subject === subject);
      const row = rows[index]!;
      row.push(one === undefined ? "" : median(one.values).toFixed(one.digits));
      for (const to of [direct, peer]) {
        if (to === undefined) continue;
        const isSelf = to.subject === subject;
        row.push(one === undefined || isSelf ? "" : ratio(one, to).toFixed(2));
      }
    }
  }
  return markdown(headings, rows);
}

/** What was to be reached, and was. */
export function verdictTable(verdicts: readonly Verdict[]): string {
  return markdown(
    ["subject", "measure", "metric", "goal", "floor", "reached", "against", ""],
    verdicts.map((line) => [
      line.subject,
      line.measure,
      line.metric,
      line.goal,
      line.floor,
      line.reached.toFixed(2),
      line.against ?? "",
      line.verdict,
    ]),
  );
}

/** Columns as wide as their widest cell; numbers to the right. */
export function markdown(
  headings: readonly string[],
  rows: readonly (readonly string[])[],
): string {
  const isNumber = headings.map((_, column) =>
    rows.every((row) => /^[≤≥]?[\s\d.,–]*$/.test(row[column] ?? ""))
  );
  const widths = headings.map((heading, column) =>
    Math.max(
      3,
      heading.length,
      ...rows.map((row) => (row[column] ?? "").length),
    )
  );
  const line = (cells: readonly string[]) =>
    `| ${
      widths.map((width, column) =>
        isNumber[column]
          ? (cells[column] ?? "").padStart(width)
          : (cells[column] ?? "").padEnd(width)
      ).join(" | ")
    } |\n`;
  const rule = widths.map((width, column) =>
    isNumber[column] ? "-".repeat(width - 1) + ":" : "-".repeat(width)
  );
  return line(headings) + line(rule) + rows.map(line).join("");
}
