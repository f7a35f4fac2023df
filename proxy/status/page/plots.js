// Two plots of the last minutes, drawn by uPlot.

import { byId } from "./dom.js";
import { bytes, rate } from "./format.js";

/** How far back they go, milliseconds. */
const SPAN_MS = 5 * 60_000;

/* global uPlot */

export class Plots {
  #samples = [];
  #plots = [];
  #frame = 0;

  constructor() {
    matchMedia("(prefers-color-scheme: dark)")
      .addEventListener("change", () => this.#make());
    new ResizeObserver(() => this.#resize()).observe(byId("plot-bytes"));
  }

  begin(samples) {
    this.#samples = samples;
    this.#make();
  }

  add(sample) {
    const last = this.#samples.at(-1);
    if (last !== undefined && sample.time <= last.time) return;
    this.#samples.push(sample);
    while (this.#samples[0].time < sample.time - SPAN_MS) this.#samples.shift();
    if (document.hidden) return;
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      const { connections, traffic } = this.#series();
      this.#plots[0]?.setData(connections);
      this.#plots[1]?.setData(traffic);
    });
  }

  #series() {
    const samples = this.#samples;
    const times = samples.map(({ time }) => time / 1_000);
    const perSecond = (field) =>
      samples.map((sample, index) => {
        const before = samples[index - 1];
        if (before === undefined) return null;
        const seconds = (sample.time - before.time) / 1_000;
        return Math.max(0, (sample[field] - before[field]) / seconds);
      });
    return {
      connections: [times, samples.map(({ open }) => open), perSecond("total")],
      traffic: [
        times,
        perSecond("bytesToClients"),
        perSecond("bytesToEndpoints"),
      ],
    };
  }

  #make() {
    for (const plot of this.#plots) plot.destroy();
    const { connections, traffic } = this.#series();
    this.#plots = [
      plot(byId("plot-connections"), connections, { format: rate, least: 4 }),
      plot(byId("plot-bytes"), traffic, { format: bytes, least: 1_000 }),
    ];
  }

  #resize() {
    for (const each of this.#plots) {
      const box = each.root.parentElement;
      each.setSize({ width: box.clientWidth, height: box.clientHeight });
    }
  }
}

function plot(box, data, { format, least }) {
  const style = getComputedStyle(document.documentElement);
  const color = (name) => style.getPropertyValue(name).trim();
  const axis = {
    stroke: color("--muted"),
    font: "11px system-ui, sans-serif",
    grid: { stroke: color("--line"), width: 1 },
    ticks: { show: false },
  };
  const line = (name) => ({
    stroke: color(name),
    width: 2,
    points: { show: false },
    spanGaps: true,
  });
  return new uPlot(
    {
      width: box.clientWidth,
      height: box.clientHeight,
      legend: { show: false },
      cursor: { show: false },
      padding: [8, 18, 0, 0],
      scales: {
        x: {
          range: (_, __, max) => {
            const end = max ?? Date.now() / 1_000;
            return [end - SPAN_MS / 1_000, end];
          },
        },
        y: { range: (_, __, max) => [0, Math.max(least, (max ?? 0) * 1.1)] },
      },
      axes: [
        {
          ...axis,
          size: 24,
          space: 70,
          values: (_, ticks) =>
            ticks.map((tick) =>
              new Date(tick * 1_000).toLocaleTimeString("en-GB", {
                hour: "2-digit",
                minute: "2-digit",
              })
            ),
          incrs: [60, 120, 300],
        },
        {
          ...axis,
          size: 58,
          space: 34,
          values: (_, ticks) => ticks.map(format),
        },
      ],
      series: [
        {},
        { ...line("--one"), fill: `${color("--one")}22` },
        line("--two"),
      ],
    },
    data,
    box,
  );
}
