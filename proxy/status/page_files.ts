/**
 * The files of the dashboard, as text: they are part of the program, so that it
 * works as one binary and without a network.
 *
 * @module
 */
import uplotCss from "uplot/dist/uPlot.min.css" with { type: "text" };
import uplotJs from "uplot/dist/uPlot.iife.min.js" with { type: "text" };
import css from "./page/page.css" with { type: "text" };
import html from "./page/page.html" with { type: "text" };
import detailJs from "./page/detail.js" with { type: "text" };
import domJs from "./page/dom.js" with { type: "text" };
import formatJs from "./page/format.js" with { type: "text" };
import iconSvg from "./page/icon.svg" with { type: "text" };
import pageJs from "./page/page.js" with { type: "text" };
import pathJs from "./page/path.js" with { type: "text" };
import plotsJs from "./page/plots.js" with { type: "text" };
import tableJs from "./page/table.js" with { type: "text" };

export interface PageFile {
  readonly path: string;
  readonly type: string;
  readonly text: string;
}

const JS = "text/javascript; charset=utf-8";
const CSS = "text/css; charset=utf-8";

export const PAGE_FILES: readonly PageFile[] = [
  { path: "/", type: "text/html; charset=utf-8", text: html },
  { path: "/page.css", type: CSS, text: css },
  { path: "/icon.svg", type: "image/svg+xml", text: iconSvg },
  { path: "/page.js", type: JS, text: pageJs },
  { path: "/dom.js", type: JS, text: domJs },
  { path: "/format.js", type: JS, text: formatJs },
  { path: "/table.js", type: JS, text: tableJs },
  { path: "/detail.js", type: JS, text: detailJs },
  { path: "/path.js", type: JS, text: pathJs },
  { path: "/plots.js", type: JS, text: plotsJs },
  { path: "/uplot.js", type: JS, text: uplotJs },
  { path: "/uplot.css", type: CSS, text: uplotCss },
];
