// One Service port in full: the picture, its endpoints, addresses and counts.

import { byId, element } from "./dom.js";
import { bytes, count, plural, span } from "./format.js";
import { pathPicture } from "./path.js";

/** Endpoints in the list; a Service may have thousands. */
const ENDPOINTS_MAX = 200;

const panel = byId("detail");

function show(isShown) {
  panel.hidden = !isShown;
  byId("columns").classList.toggle("open", isShown);
}

export class Detail {
  #ports;
  #overview;
  #closed;
  #id;
  #endpoints = [];
  #stream;
  #drawn = "";

  /**
   * @param ports id → port, changed by others
   * @param overview the latest
   * @param closed told when it was closed
   */
  constructor(ports, overview, closed) {
    this.#ports = ports;
    this.#overview = overview;
    this.#closed = closed;
    document.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && this.#id !== undefined) this.close();
    });
  }

  open(id) {
    this.#stop();
    this.#id = id;
    this.#stream = new EventSource(`events?port=${encodeURIComponent(id)}`);
    this.#stream.addEventListener("endpoints", ({ data }) => {
      const told = JSON.parse(data);
      if (told.id !== this.#id) return;
      this.#endpoints = told.endpoints;
      this.draw();
    });
    show(true);
    this.draw();
    // On a narrow screen it is below the table.
    if (matchMedia("(max-width: 1050px)").matches) {
      panel.focus({ preventScroll: true });
      panel.scrollIntoView({ block: "start" });
    }
  }

  close() {
    this.#stop();
    show(false);
    this.#closed();
  }

  #stop() {
    this.#stream?.close();
    this.#stream = undefined;
    this.#id = undefined;
    this.#endpoints = [];
    this.#drawn = "";
  }

  draw() {
    if (this.#id === undefined) return;
    const port = this.#ports.get(this.#id);
    const overview = this.#overview();
    const now = JSON.stringify([
      port?.row,
      port?.counts,
      this.#endpoints,
      overview?.steering,
    ]);
    if (now === this.#drawn) return;
    this.#drawn = now;
    const hadFocus = panel.contains(document.activeElement) &&
      document.activeElement !== panel;
    const close = element(
      "button",
      { type: "button", className: "close" },
      "Close",
    );
    close.addEventListener("click", () => this.close());
    const bar = element(
      "div",
      { className: "bar" },
      element("h2", {}, port?.row.name ?? this.#id),
      close,
    );
    panel.replaceChildren(
      bar,
      ...(port === undefined
        ? [element("p", { className: "muted" }, "This Service port is gone.")]
        : contents(port, this.#endpoints, overview)),
    );
    if (hadFocus) close.focus({ preventScroll: true });
  }
}

function contents(port, endpoints, overview) {
  const { row, counts } = port;
  const about = [
    row.protocol,
    row.family,
    row.isDraining ? "the Service is gone, connections go on" : "",
  ].filter(Boolean).join(" · ");
  return [
    element("p", { className: "muted hint" }, about),
    pathPicture(port, endpoints, overview),
    element("h3", { className: "counted" }, "Since the proxy started"),
    figures({
      Connections: count(counts.total),
      "To endpoints": bytes(counts.bytesToEndpoints),
      "To clients": bytes(counts.bytesToClients),
      Failed: count(counts.failed),
      "Turned away": count(counts.refused),
      "Failed dials": count(counts.dialFailures),
      ...(counts.ejected > 0 ? { "Ejected now": count(counts.ejected) } : {}),
      ...(row.affinitySeconds > 0
        ? { "Remembered clients": count(counts.affinityEntries) }
        : {}),
    }),
    element("h3", {}, plural(endpoints.length, "endpoint")),
    endpointTable(endpoints),
    element(
      "h3",
      {},
      row.addresses.length === 1
        ? "1 address"
        : `${row.addresses.length} addresses`,
    ),
    addressTable(row.addresses, overview?.engine === "kernel"),
  ];
}

function figures(values) {
  return element(
    "dl",
    { className: "figures counted" },
    ...Object.entries(values).map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))
    ),
  );
}

function table(headings, rows) {
  return element(
    "table",
    {},
    element(
      "thead",
      {},
      element(
        "tr",
        {},
        ...headings.map(([text, className = ""]) =>
          element("th", { className, scope: "col" }, text)
        ),
      ),
    ),
    element("tbody", {}, ...rows.map((cells) => element("tr", {}, ...cells))),
  );
}

function endpointTable(endpoints) {
  const rows = endpoints.slice(0, ENDPOINTS_MAX).map((endpoint) => [
    element(
      "td",
      { title: endpoint.node },
      element(
        "span",
        { className: `state mono ${endpoint.state.replace(" ", "-")}` },
        endpoint.address,
      ),
    ),
    element(
      "td",
      {},
      endpoint.state + (endpoint.isLocal ? ", on this node" : ""),
    ),
    element("td", { className: "number" }, count(endpoint.open)),
    element("td", { className: "number extra" }, count(endpoint.total)),
    element("td", { className: "number extra" }, count(endpoint.dialFailures)),
  ]);
  const made = table(
    [["Address"], ["State"], ["Open", "number"], ["Total", "number extra"], [
      "Failed",
      "number extra",
    ]],
    rows,
  );
  if (endpoints.length <= ENDPOINTS_MAX) return made;
  return element(
    "div",
    {},
    made,
    element(
      "p",
      { className: "muted" },
      `and ${count(endpoints.length - ENDPOINTS_MAX)} more`,
    ),
  );
}

function addressTable(addresses, isKernel) {
  return table(
    [["Address"], ["Kind"], ["Listens on"]],
    addresses.map(({ kind, address, listen, failure }) => [
      element("td", { className: "mono" }, address),
      element("td", {}, kind),
      failure !== ""
        ? element("td", { className: "bad-text", title: failure }, failure)
        : element(
          "td",
          { className: "mono" },
          listen === address
            ? "itself"
            : listen || (isKernel ? "the kernel" : "nothing"),
        ),
    ]),
  );
}

export function facts(overview) {
  const { steering, sources } = overview;
  const watches = Object.entries(sources).map(([name, { phase, reason }]) => [
    `Watch of ${name}`,
    reason ? `${phase}: ${reason}` : phase,
  ]);
  const pairs = [
    [
      "Steering",
      steering === null
        ? "not chosen yet"
        : `${steering.name}: ${steering.description}`,
    ],
    ...watches,
    [
      "Last sync",
      `${span(overview.time - overview.lastSyncAt)} ago${
        overview.changesPending > 0
          ? `, ${plural(overview.changesPending, "change")} waiting`
          : ""
      }`,
    ],
    ["Listeners", count(overview.listeners)],
    ["Engine", overview.engine],
    ["Node", overview.node],
    ["Running for", span(overview.time - overview.startedAt)],
    ["Version", overview.version],
  ];
  return pairs.flatMap(([name, value]) => [
    element("dt", {}, name),
    element("dd", {}, value),
  ]);
}
