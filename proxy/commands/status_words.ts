/**
 * Status for a terminal: a few lines about the proxy, then a row for each
 * Service port.
 *
 * @module
 */
import type { PortStatus } from "../status/dashboard.ts";
import type { Overview } from "../status/status_board.ts";
import { table } from "./terminal.ts";

export interface StatusWords {
  readonly overview: Overview | undefined;
  readonly ports: readonly PortStatus[];
}

/** Endpoints named in a row; the rest are counted. */
const ENDPOINTS_MAX = 3;

export function statusText({ overview, ports }: StatusWords): string {
  if (overview === undefined) return "";
  const isKernel = overview.engine === "kernel";
  const rows = ports.map((port) => portCells(port, isKernel).map(clean));
  return [
    about(overview),
    table(
      [
        "SERVICE PORT",
        "ADDRESS",
        "LISTENS ON",
        "ENDPOINTS",
        "OPEN",
        "TOTAL",
        "FAILED",
        "TO CLIENTS",
      ],
      alignRight(rows, [4, 5, 6, 7]),
    ),
    ...problems(ports),
  ].join("\n");
}

const HEALTH = {
  "healthy": "healthy",
  "leaving": "Node unknown or leaving",
  "not syncing": "NOT SYNCING",
} as const;

function about(overview: Overview): string {
  const { steering, sources, totals } = overview;
  const waiting = Object.entries(sources).filter(([, { phase }]) =>
    phase === "waiting"
  ).map(([name, { reason }]) => `${name}: ${reason ?? "waiting"}`);
  return [
    `kube-portal v${overview.version} on ${overview.node}, ` +
    `${HEALTH[overview.health]}, ` +
    `engine ${overview.engine}`,
    steering === null
      ? "Steering: not chosen yet"
      : `Steering: ${steering.name}; ${steering.description}`,
    waiting.length === 0
      ? "Watching: " + Object.keys(sources).join(", ")
      : `WAITING: ${waiting.join("; ")}`,
    `${counted(overview.services, "Service")}, ` +
    (overview.engine === "kernel"
      ? "connections are the kernel's, and not counted"
      : `${counted(overview.listeners, "listener")}, ` +
        `${counted(totals.open, "open connection")}, ${totals.total} in all`),
    "",
  ].join("\n");
}

/** `1 listener`, `2 listeners`. */
function counted(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? "" : "s"}`;
}

/** @param isKernel the kernel forwards, and nobody counts */
function portCells(
  { row, counts, endpoints }: PortStatus,
  isKernel: boolean,
): string[] {
  const [address] = row.addresses;
  const listens = [
    ...new Set(
      row.addresses.map(({ listen }) => listen).filter((listen) =>
        listen !== ""
      ),
    ),
  ];
  const more = row.addresses.length > 1
    ? ` (+${row.addresses.length - 1})`
    : "";
  return [
    row.name + (row.isDraining ? " (gone)" : ""),
    `${address?.address ?? "none"}/${row.protocol}${more}`,
    isKernel
      ? "the kernel"
      : listens.length === 0
      ? "nothing"
      : listens[0] === address?.address
      ? "itself"
      : listens[0] ?? "",
    endpointsText(endpoints),
    ...isKernel ? ["-", "-", "-", "-"] : [
      String(counts.open),
      String(counts.total),
      String(counts.failed + counts.refused),
      bytesText(counts.bytesToClients),
    ],
  ];
}

function endpointsText(endpoints: PortStatus["endpoints"]): string {
  if (endpoints.length === 0) return "none";
  const named = endpoints.slice(0, ENDPOINTS_MAX).map(({ address, state }) =>
    state === "ready" ? address : `${address} (${state})`
  );
  const more = endpoints.length - named.length;
  return named.join(" ") + (more > 0 ? ` +${more}` : "");
}

function problems(ports: readonly PortStatus[]): string[] {
  const lines = ports.flatMap(({ row }) =>
    row.addresses.filter(({ failure }) => failure !== "").map((
      { address, failure },
    ) => clean(`${row.name} ${address} is not served: ${failure}`) + "\n")
  );
  return lines.length === 0 ? [] : [lines.join("")];
}

/** What came from a cluster moves no cursor and forges no line. */
function clean(text: string): string {
  return text.replaceAll(/\p{Cc}/gu, "?");
}

function alignRight(
  rows: readonly string[][],
  columns: readonly number[],
): string[][] {
  const widths = new Map(columns.map((column) => [
    column,
    Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)),
  ]));
  return rows.map((row) =>
    row.map((cell, column) => cell.padStart(widths.get(column) ?? 0))
  );
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

function bytesText(bytes: number): string {
  let unit = 0;
  while (bytes >= 1_000 && unit < UNITS.length - 1) {
    bytes /= 1_000;
    unit++;
  }
  return `${bytes.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}
