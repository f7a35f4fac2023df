/**
 * Bars as SVG: a panel for each metric, a bar for each subject, its median in
 * figures and the range of the rounds as a thin line. In: series of one
 * measure. Out: text. Pure. (What npm has for this draws into a DOM.)
 *
 * @module
 */
import { median, type Series } from "./samples.ts";

const WIDTH = 720;
const LABEL = 150;
const VALUE = 90;
const BAR = 18;
const GAP = 6;
const HEAD = 34;

/** Ours are filled, peers and no proxy are grey. */
const COLOURS: Readonly<Record<string, string>> = {
  portable: "#7fa8d9",
  splice: "#1f5fa8",
  "splice, 2 workers": "#4f86c6",
};
const GREY = "#9a9a9a";

/** A picture of one measure, readable on white and on black. */
export function plot(title: string, series: readonly Series[]): string {
  const panels = Map.groupBy(series, ({ metric }) => metric);
  let y = HEAD;
  const parts: string[] = [text(10, 22, title, "font-weight='bold'")];
  for (const [metric, bars] of panels) {
    const { unit, better } = bars[0]!;
    parts.push(text(10, y + 12, `${metric}, ${unit} (${better} is better)`));
    y += 20;
    const top = Math.max(...bars.flatMap(({ values }) => values));
    const scale = (value: number) =>
      top > 0 ? Math.max(0, value) / top * (WIDTH - LABEL - VALUE) : 0;
    for (const { subject, values, digits } of bars) {
      const middle = median(values);
      const colour = COLOURS[subject] ?? GREY;
      const line = y + BAR / 2;
      const from = LABEL + scale(Math.min(...values));
      const to = LABEL + scale(Math.max(...values));
      parts.push(
        text(LABEL - 8, y + 13, subject, "text-anchor='end'"),
        `<rect x='${LABEL}' y='${y}' width='${
          scale(middle).toFixed(1)
        }' height='${BAR}' fill='${colour}'/>`,
        `<path d='M${from.toFixed(1)} ${line}H${
          to.toFixed(1)
        }' stroke='#d9534f' stroke-width='2'/>`,
        text(
          Math.max(to, LABEL + scale(middle)) + 6,
          y + 13,
          middle.toFixed(digits),
        ),
      );
      y += BAR + GAP;
    }
    y += 14;
  }
  return `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${WIDTH} ${y}' ` +
    `width='${WIDTH}' height='${y}' font-family='sans-serif' font-size='12'>\n` +
    `<rect width='100%' height='100%' fill='#ffffff'/>\n${
      parts.join("\n")
    }\n</svg>\n`;
}

function text(x: number, y: number, content: string, more = ""): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x='${x.toFixed(1)}' y='${y}' ${more}>${escaped}</text>`;
}
