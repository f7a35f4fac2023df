// The picture of the way a connection takes, from a client to an endpoint.

import { element, svg } from "./dom.js";
import { count, plural, span } from "./format.js";

/** Endpoints that are drawn. */
const FAN_MAX = 8;
const FAN_PX = 52;

/**
 * @param port a Service port with its row and counts
 * @param endpoints as they are now
 * @param overview for how packets come here
 */
export function pathPicture(port, endpoints, overview) {
  const { row } = port;
  const isKernel = overview?.engine === "kernel";
  const served = row.addresses.filter(({ listen }) => listen !== "");
  const shown = endpoints.slice(0, FAN_MAX);
  const more = endpoints.length - shown.length;
  const fan = shown.map(({ address, state, node, open }) =>
    element(
      "li",
      {},
      element(
        "span",
        { className: `state mono ${state.replace(" ", "-")}` },
        address,
      ),
      element(
        "small",
        {},
        [state, isKernel ? "" : `${count(open)} open`, node].filter(Boolean)
          .join(" · "),
      ),
    )
  );
  if (more > 0) {
    fan.push(
      element("li", {}, element("small", {}, plural(more, "more endpoint"))),
    );
  }
  if (endpoints.length === 0) {
    fan.push(element("li", {}, element("small", {}, "no endpoint")));
  }
  return element(
    "div",
    {
      className: "path",
      role: "group",
      "aria-label": "The way a connection takes",
    },
    element("ol", { className: "hops" }, ...hops(port, served, overview)),
    wires(shown, fan.length),
    element("ul", { className: "fan" }, ...fan),
  );
}

function hops({ row, counts }, served, overview) {
  const isKernel = overview?.engine === "kernel";
  const isRefused = served.length === 0 && !isKernel;
  const open = row.protocol === "UDP" ? "flow" : "connection";
  const listens = [...new Set(served.map(({ listen }) => listen))];
  return [
    hop("Client", isKernel ? "" : plural(counts.open, `open ${open}`)),
    hop(
      "connects to",
      row.addresses[0]?.address ?? "no address",
      row.addresses.length > 1
        ? `or ${
          row.addresses.slice(1, 4).map(({ kind, address }) =>
            `${kind} ${address}`
          ).join(", ")
        }${row.addresses.length > 4 ? " …" : ""}`
        : row.addresses[0]?.kind,
    ),
    ...isKernel
      ? [
        hop("met by the kernel", overview.steering?.description ?? ""),
        hop("which choose an endpoint", kernelChoice(row), rules(row)),
      ]
      : [
        hop(
          `steered by ${overview?.steering?.name ?? "nothing yet"}`,
          isRefused ? "refused: nobody listens" : "to the listener",
          overview?.steering?.description,
        ),
        hop(
          "kube-portal listens on",
          listens.slice(0, 3).join(", ") || "nothing",
          isRefused
            ? row.addresses.find(({ failure }) => failure !== "")?.failure ??
              "without an endpoint there is no listener"
            : undefined,
          isRefused,
        ),
        hop("and chooses an endpoint", choice(row), rules(row)),
      ],
  ];
}

function hop(title, text, small, isBroken = false) {
  return element(
    "li",
    { className: isBroken ? "hop broken" : "hop" },
    element("b", {}, title),
    element("span", {}, text),
    small ? element("small", {}, small) : undefined,
  );
}

function kernelChoice({ affinitySeconds }) {
  return affinitySeconds > 0
    ? `at random; a client stays for ${span(affinitySeconds * 1_000)}`
    : "at random";
}

function choice({ balancer, affinitySeconds }) {
  const order = balancer === "least-connections"
    ? "fewest connections"
    : "in turn";
  return affinitySeconds > 0
    ? `${order}; a client stays for ${span(affinitySeconds * 1_000)}`
    : order;
}

function rules(row) {
  return [
    row.internalPolicy === "Local" ? "internal policy Local" : "",
    row.externalPolicy === "Local" ? "external policy Local" : "",
    row.sourceRanges.length > 0
      ? `only from ${row.sourceRanges.slice(0, 3).join(", ")}`
      : "",
    row.maxConnectionAgeMs > 0
      ? `ended at ${span(row.maxConnectionAgeMs)}`
      : "",
    row.proxyProtocol === "none" ? "" : `PROXY protocol ${row.proxyProtocol}`,
  ].filter(Boolean).join(" · ");
}

/** Lines from the choice to each endpoint, thicker with more connections. */
function wires(endpoints, rows) {
  const height = Math.max(1, rows) * FAN_PX;
  // The choice is the last hop: both columns end at the same height.
  const from = height - FAN_PX / 2;
  const most = Math.max(1, ...endpoints.map(({ open }) => open));
  const lines = endpoints.map(({ open, state }, index) => {
    const y = index * FAN_PX + FAN_PX / 2;
    const isIdle = state === "not ready" || state === "ejected";
    return svg("path", {
      d: `M0 ${from} C 28 ${from}, 28 ${y}, 54 ${y}`,
      class: isIdle ? "idle" : open > 0 ? "busy" : "",
      "stroke-width": String(open > 0 ? 1.5 + 3 * open / most : 1.5),
    });
  });
  return svg(
    "svg",
    {
      class: "wires",
      viewBox: `0 0 56 ${height}`,
      height: String(height),
      "aria-hidden": "true",
    },
    ...lines,
  );
}
