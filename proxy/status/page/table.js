// The table of Service ports: filtered, sorted, and of ten thousand rows only
// those in sight are elements.

import { byId, element, setText } from "./dom.js";
import { bytes, count, plural, rate } from "./format.js";

const ROW_PX = 44;
/** Rows made above and below those in sight. */
const SPARE = 8;

const scroller = byId("scroller");
const body = byId("rows");
const filter = byId("filter");

const ORDER = {
  name: (
    a,
    b,
  ) => (a.row.name < b.row.name ? -1 : a.row.name > b.row.name ? 1 : 0),
  open: (a, b) => b.counts.open - a.counts.open || ORDER.name(a, b),
  rate: (a, b) => b.rates.connections - a.rates.connections || ORDER.name(a, b),
  bytes: (a, b) => b.rates.bytes - a.rates.bytes || ORDER.name(a, b),
};

export class PortTable {
  #ports;
  #choose;
  #sort = "name";
  #listed = [];
  #selected;
  #isStale = true;
  #frame = 0;

  /**
   * @param ports id → port, changed by others
   * @param choose told the id of a row that was chosen
   */
  constructor(ports, choose) {
    this.#ports = ports;
    this.#choose = choose;
    filter.addEventListener("input", () => {
      scroller.scrollTop = 0;
      this.changed();
    });
    scroller.addEventListener("scroll", () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(scroller);
    for (const button of document.querySelectorAll("th button")) {
      button.addEventListener("click", () => this.#sortBy(button));
    }
    body.addEventListener("click", ({ target }) => {
      const id = target.closest("tr.port")?.dataset.id;
      if (id !== undefined) this.#choose(id);
    });
    scroller.addEventListener("keydown", (event) => this.#key(event));
  }

  select(id) {
    this.#selected = id;
    this.#draw();
  }

  /** Rows came, went or changed what they are sorted by. */
  changed() {
    this.#isStale = true;
    this.#draw();
  }

  /** Numbers changed. */
  counted() {
    if (this.#sort === "name") this.#draw();
    else this.changed();
  }

  #draw() {
    this.#frame ||= requestAnimationFrame(() => {
      this.#frame = 0;
      if (this.#isStale) this.#list();
      this.#render();
    });
  }

  #list() {
    this.#isStale = false;
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    const all = [...this.#ports.values()];
    this.#listed = all.filter(({ text }) =>
      words.every((word) => text.includes(word))
    ).sort(ORDER[this.#sort]);
    const total = plural(all.length, "port");
    setText(
      byId("shown"),
      words.length === 0 ? total : `${count(this.#listed.length)} of ${total}`,
    );
    byId("nothing").hidden = this.#listed.length > 0;
    setText(
      byId("nothing"),
      all.length === 0 ? "No Service yet." : "No Service port matches.",
    );
  }

  #render() {
    const listed = this.#listed;
    const inSight = Math.ceil(scroller.clientHeight / ROW_PX);
    const top = Math.floor(scroller.scrollTop / ROW_PX);
    const from = Math.max(0, Math.min(top - SPARE, listed.length - inSight));
    const to = Math.min(listed.length, top + inSight + SPARE);
    // Rows that stay keep their elements, and with them the focus.
    const known = new Map(
      [...body.querySelectorAll("tr.port")].map((row) => [row.dataset.id, row]),
    );
    const rows = listed.slice(from, to).map((port, index) => {
      const row = known.get(port.row.id) ?? makeRow(port.row.id);
      fillRow(row, port);
      row.setAttribute("aria-selected", String(port.row.id === this.#selected));
      row.setAttribute("aria-rowindex", String(from + index + 2));
      return row;
    });
    const wanted = [spacer(from), ...rows, spacer(listed.length - to)];
    const current = [...body.children];
    const isSame = current.length === wanted.length &&
      rows.every((row, index) => current[index + 1] === row);
    if (isSame) {
      current[0].firstChild.style.height = `${from * ROW_PX}px`;
      current.at(-1).firstChild.style.height = `${
        (listed.length - to) * ROW_PX
      }px`;
      return;
    }
    const focused = document.activeElement?.closest?.("tr.port");
    body.replaceChildren(...wanted);
    if (focused?.isConnected) focused.querySelector("button").focus();
  }

  #sortBy(button) {
    this.#sort = button.dataset.sort;
    for (const other of document.querySelectorAll("th button")) {
      other.parentElement.removeAttribute("aria-sort");
    }
    const order = this.#sort === "name" ? "ascending" : "descending";
    button.parentElement.setAttribute("aria-sort", order);
    scroller.scrollTop = 0;
    this.changed();
  }

  #key(event) {
    const row = event.target.closest("tr.port");
    if (row === null) return;
    const at = this.#listed.findIndex(({ row: { id } }) =>
      id === row.dataset.id
    );
    const page = Math.max(1, Math.floor(scroller.clientHeight / ROW_PX) - 2);
    const to = {
      ArrowDown: at + 1,
      ArrowUp: at - 1,
      PageDown: at + page,
      PageUp: at - page,
      Home: 0,
      End: this.#listed.length - 1,
    }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    this.focus(to);
  }

  /** Moves the focus to a row, into sight. */
  focus(index) {
    const at = Math.max(0, Math.min(index, this.#listed.length - 1));
    const port = this.#listed[at];
    if (port === undefined) return;
    const head = scroller.querySelector("thead").offsetHeight;
    const y = at * ROW_PX;
    if (y < scroller.scrollTop) scroller.scrollTop = y;
    else if (y + ROW_PX + head > scroller.scrollTop + scroller.clientHeight) {
      scroller.scrollTop = y + ROW_PX + head - scroller.clientHeight;
    }
    this.#render();
    const rows = [...body.querySelectorAll("tr.port")];
    rows.find(({ dataset }) => dataset.id === port.row.id)
      ?.querySelector("button").focus();
  }
}

function spacer(rows) {
  const cell = element("td", {});
  cell.style.height = `${rows * ROW_PX}px`;
  return element("tr", { className: "spacer", "aria-hidden": "true" }, cell);
}

function makeRow(id) {
  const row = element(
    "tr",
    { className: "port" },
    element(
      "td",
      { className: "name" },
      element("button", { type: "button" }),
    ),
    element("td", { className: "address mono" }),
    element("td", { className: "endpoints" }),
    element("td", { className: "number open" }),
    element("td", { className: "number rate" }),
    element("td", { className: "number bytes" }),
  );
  row.dataset.id = id;
  return row;
}

function fillRow(row, { row: port, counts, rates }) {
  const [name, address, endpoints, open, perSecond, traffic] = row.children;
  if (row.port !== port) {
    row.port = port;
    const failing = port.addresses.some(({ failure }) => failure !== "");
    const tags = [
      port.protocol === "TCP" ? undefined : tag(port.protocol),
      port.family === "IPv4" ? undefined : tag(port.family),
      port.isDraining ? tag("draining") : undefined,
      failing ? tag("not served", "bad") : undefined,
    ].filter(Boolean);
    const service = `${port.namespace}/${port.service}`;
    name.firstChild.replaceChildren(
      element("span", { className: "service" }, service),
      element(
        "small",
        {},
        port.name.slice(service.length + 1),
        ...tags.flatMap((each) => [" ", each]),
      ),
    );
    name.firstChild.title = port.name;
    setText(address, port.addresses[0]?.address ?? "");
    address.title = port.addresses.map(({ kind, address }) =>
      `${kind} ${address}`
    ).join("\n");
    endpoints.replaceChildren(endpointStates(port.endpoints));
  }
  number(open, counts.open, count);
  number(perSecond, rates.connections, rate);
  number(traffic, rates.bytes, bytes);
}

function tag(text, kind = "") {
  return element("span", { className: `tag ${kind}` }, text);
}

function endpointStates({ ready, terminating, notReady }) {
  const states = [["ready", ready], ["terminating", terminating], [
    "not-ready",
    notReady,
  ]]
    .filter(([, n]) => n > 0)
    .map(([state, n]) =>
      element(
        "span",
        { className: `state ${state}`, title: state.replace("-", " ") },
        count(n),
      )
    );
  return states.length === 0
    ? element("span", { className: "zero" }, "none")
    : element("span", { className: "states" }, ...states);
}

function number(cell, value, format) {
  setText(cell, format(value));
  cell.classList.toggle("muted", value === 0);
}
