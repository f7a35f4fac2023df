// The dashboard: hears what changed and keeps the page so. Everything it shows
// came from a cluster and is text, never markup.

import { Detail, facts } from "./detail.js";
import { byId, element, setText } from "./dom.js";
import { bytes, clock, count, plural, rate, span } from "./format.js";
import { Plots } from "./plots.js";
import { PortTable } from "./table.js";

/** Events in the list. */
const EVENTS_MAX = 200;

const NO_RATES = { connections: 0, bytes: 0 };

/** Id → row, counts, rates, and the text that the filter looks at. */
const ports = new Map();
/** Ids whose rates are not 0. */
let moving = new Set();
/** While a first list comes in pieces: those named so far. */
let named;
let overview;
let before;

const plots = new Plots();
const detail = new Detail(ports, () => overview, () => {
  table.select(undefined);
  history.replaceState(null, "", location.pathname);
});
const table = new PortTable(ports, choose);

function choose(id) {
  table.select(id);
  detail.open(id);
  history.replaceState(null, "", `#${encodeURIComponent(id)}`);
}

function searchText({ id, name, addresses, protocol }) {
  const places = addresses.flatMap((
    { address, listen, kind },
  ) => [address, listen, kind]);
  return [id, name, protocol, ...places].join(" ").toLowerCase();
}

const ON = {
  history(samples) {
    plots.begin(samples);
  },
  overview(next) {
    before = overview;
    overview = next;
    // Whoever is not heard of in this round has not moved.
    for (const id of moving) {
      const port = ports.get(id);
      if (port !== undefined) port.rates = NO_RATES;
    }
    moving = new Set();
    plots.add(next.totals);
    showOverview();
    table.counted();
    detail.draw();
  },
  rows({ isFirst, isLast, ports: told }) {
    if (isFirst) named = new Set();
    for (const { row, counts } of told) {
      named?.add(row.id);
      const known = ports.get(row.id);
      ports.set(row.id, {
        row,
        counts,
        rates: known === undefined
          ? NO_RATES
          : rates(row.id, known.counts, counts),
        text: searchText(row),
      });
    }
    if (isLast && named !== undefined) {
      for (const id of ports.keys()) if (!named.has(id)) ports.delete(id);
      named = undefined;
      openFromAddress();
    }
    table.changed();
    detail.draw();
  },
  counts(told) {
    for (const [id, counts] of told) {
      const port = ports.get(id);
      if (port === undefined) continue;
      port.rates = rates(id, port.counts, counts);
      port.counts = counts;
    }
    table.counted();
    detail.draw();
  },
  removed(ids) {
    for (const id of ids) ports.delete(id);
    table.changed();
    detail.draw();
  },
  log: showEvents,
};

function rates(id, was, is) {
  const seconds = before === undefined
    ? 1
    : (overview.time - before.time) / 1_000;
  moving.add(id);
  const moved = is.bytesToEndpoints + is.bytesToClients - was.bytesToEndpoints -
    was.bytesToClients;
  return {
    connections: Math.max(0, is.total - was.total) / seconds,
    bytes: Math.max(0, moved) / seconds,
  };
}

function showOverview() {
  const { totals } = overview;
  const seconds = before === undefined
    ? 0
    : (totals.time - before.totals.time) / 1_000;
  const perSecond = (field) =>
    seconds > 0
      ? Math.max(0, totals[field] - before.totals[field]) / seconds
      : 0;
  setText(
    byId("about"),
    `${overview.node} · ${overview.mode} · v${overview.version}`,
  );
  // Nobody counts what the kernel forwards: nothing is shown, rather than zeros.
  const isKernel = overview.engine === "kernel";
  document.body.classList.toggle("kernel", isKernel);
  byId("not-counted").hidden = !isKernel;
  setText(byId("tile-services"), count(overview.services));
  setText(byId("tile-ports"), plural(overview.ports, "port"));
  setText(byId("tile-open"), count(totals.open));
  setText(byId("tile-rate"), `${rate(perSecond("total"))} new per second`);
  setText(byId("tile-clients"), `${bytes(perSecond("bytesToClients"))}/s`);
  setText(byId("tile-clients-total"), `${bytes(totals.bytesToClients)} so far`);
  setText(byId("tile-endpoints"), `${bytes(perSecond("bytesToEndpoints"))}/s`);
  setText(
    byId("tile-endpoints-total"),
    `${bytes(totals.bytesToEndpoints)} so far`,
  );
  setText(byId("tile-unserved"), count(overview.unserved));
  byId("tile-unserved-box").classList.toggle("bad", overview.unserved > 0);
  pill(...HEALTH[overview.health]);
  const pairs = facts(overview);
  const list = byId("facts");
  if (list.children.length !== pairs.length) list.replaceChildren(...pairs);
  else {pairs.forEach((pair, index) =>
      setText(list.children[index], pair.textContent)
    );}
}

const HEALTH = {
  healthy: ["healthy", "good"],
  leaving: ["Node unknown or leaving", "warn"],
  "not syncing": ["not syncing", "bad"],
};

function pill(text, kind) {
  setText(byId("health"), text);
  byId("health").className = `pill ${kind}`;
}

function showEvents(entries) {
  const list = byId("events");
  for (const { time, level, message, properties } of entries) {
    const more = Object.entries(properties)
      .map(([name, value]) => `${name}=${value}`).join(" ");
    list.prepend(element(
      "li",
      { className: level },
      element("time", { dateTime: new Date(time).toISOString() }, clock(time)),
      element(
        "span",
        {},
        element("span", { className: "message" }, message),
        more === ""
          ? undefined
          : element("span", { className: "muted" }, ` ${more}`),
      ),
    ));
  }
  while (list.children.length > EVENTS_MAX) list.lastChild.remove();
}

let isOpened = false;

/** A Service port can be linked to. */
function openFromAddress() {
  if (isOpened) return;
  isOpened = true;
  let id = "";
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    return;
  }
  if (ports.has(id)) choose(id);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const isTyping = event.target.matches?.("input");
  if (event.key === "/" && !isTyping) {
    event.preventDefault();
    byId("filter").focus();
  } else if (isTyping && ["ArrowDown", "Enter"].includes(event.key)) {
    event.preventDefault();
    table.focus(0);
  }
});

let lostAt;
const stream = new EventSource("events");
for (const [name, handle] of Object.entries(ON)) {
  stream.addEventListener(name, ({ data }) => handle(JSON.parse(data)));
}
stream.addEventListener("open", () => {
  lostAt = undefined;
  byId("events").replaceChildren();
});
// The browser connects again by itself, a few seconds later.
stream.addEventListener("error", () => {
  lostAt ??= Date.now();
  pill(`no answer for ${span(Date.now() - lostAt)}`, "bad");
});
