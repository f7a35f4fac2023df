/**
 * Curves as SVG: a panel for each metric, a line for each mode over the number
 * of Services, both axes logarithmic. In: series. Out: text. Pure.
 *
 * @module
 */
import { median } from "../samples.ts";
import { metricsOf, type ModeSeries, modesOf, sizesOf } from "./series.ts";

const WIDTH = 720;
const LEFT = 70;
const RIGHT = 130;
const HEIGHT = 200;
const HEAD = 34;
/** Between two panels: the axis' figures, and a heading. */
const GAP = 62;

/** As in other plots: ours blue, no proxy grey. */
const COLOURS: Readonly<Record<string, string>> = {
  direct: "#9a9a9a",
  portable: "#7fa8d9",
  splice: "#1f5fa8",
  iptables: "#c8731b",
  nftables: "#3b8a4b",
};

/** A picture of one measure, readable on white and on black. */
export function linePlot(title: string, series: readonly ModeSeries[]): string {
  const parts = [text(10, 22, title, "font-weight='bold'")];
  let y = HEAD;
  for (const { metric, unit, better } of metricsOf(series)) {
    const own = series.filter((one) => one.metric === metric);
    parts.push(text(10, y + 12, `${metric}, ${unit} (${better} is better)`));
    parts.push(...panel(own, y + 24));
    y += HEIGHT + GAP;
  }
  return `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 ${WIDTH} ${y}' ` +
    `width='${WIDTH}' height='${y}' font-family='sans-serif' font-size='12'>\n` +
    `<rect width='100%' height='100%' fill='#ffffff'/>\n${
      parts.join("\n")
    }\n</svg>\n`;
}

function panel(series: readonly ModeSeries[], top: number): string[] {
  const sizes = sizesOf(series);
  const middles = series.map(({ values }) => median(values));
  const x = scale(sizes, [LEFT, WIDTH - RIGHT]);
  const ticks = decades(middles);
  const y = scale(ticks, [top + HEIGHT, top]);
  const parts: string[] = [];
  for (const tick of ticks) {
    const at = y(tick).toFixed(1);
    parts.push(
      `<path d='M${LEFT} ${at}H${WIDTH - RIGHT}' stroke='#e0e0e0'/>`,
      text(LEFT - 6, y(tick) + 4, figure(tick), "text-anchor='end'"),
    );
  }
  for (const size of sizes) {
    // Short: 5,000 and 10,000 are near each other.
    const label = size < 1_000 ? String(size) : `${size / 1_000}k`;
    parts.push(text(x(size), top + HEIGHT + 16, label, "text-anchor='middle'"));
  }
  const labels: { mode: string; at: number }[] = [];
  for (const mode of modesOf(series)) {
    const points = series.filter((one) => one.mode === mode).map((one) => ({
      x: x(one.services),
      y: y(median(one.values)),
    })).sort((a, b) => a.x - b.x);
    const colour = COLOURS[mode] ?? "#000000";
    const path = points.map((p) => `${p.x.toFixed(1)} ${p.y.toFixed(1)}`);
    parts.push(
      `<path d='M${
        path.join("L")
      }' fill='none' stroke='${colour}' stroke-width='2'/>`,
      ...points.map((p) =>
        `<circle cx='${p.x.toFixed(1)}' cy='${
          p.y.toFixed(1)
        }' r='3' fill='${colour}'/>`
      ),
    );
    labels.push({ mode, at: points.at(-1)!.y });
  }
  return [...parts, ...names(labels)];
}

/** Beside the ends of the lines, none over another. */
function names(labels: readonly { mode: string; at: number }[]): string[] {
  let free = -Infinity;
  return labels.toSorted((a, b) => a.at - b.at).map(({ mode, at }) => {
    const y = Math.max(at + 4, free);
    free = y + 14;
    const colour = COLOURS[mode] ?? "#000000";
    return text(WIDTH - RIGHT + 12, y, mode, `fill='${colour}'`);
  });
}

/** 1, 2 and 5 times powers of ten, from below all values to above them. */
function decades(values: readonly number[]): number[] {
  const all = [-3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7].flatMap((power) =>
    [1, 2, 5].map((digit) => digit * 10 ** power)
  );
  const above = all.find((tick) => tick >= Math.max(...values)) ?? all.at(-1)!;
  const below = all.findLast((tick) => tick <= Math.min(...values)) ?? all[0]!;
  return all.filter((tick) => tick >= below && tick <= above);
}

/** Logarithmic, so that all of these values are between the two ends. */
function scale(
  values: readonly number[],
  [from, to]: readonly [number, number],
): (value: number) => number {
  const low = Math.log(Math.min(...values));
  const span = Math.log(Math.max(...values)) - low;
  return (value) =>
    span > 0
      ? from + (Math.log(value) - low) / span * (to - from)
      : (from + to) / 2;
}

function figure(value: number): string {
  return String(Number(value.toPrecision(1)));
}

function text(x: number, y: number, content: string, more = ""): string {
  const escaped = content.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  return `<text x='${x.toFixed(1)}' y='${
    y.toFixed(1)
  }' ${more}>${escaped}</text>`;
}
