/**
 * How far long work has come, for whoever looks at a terminal: the first lists
 * of a big cluster, opening its listeners, draining. One line that is written
 * over; in a log, which is no terminal, there is none. Reads; changes nothing.
 *
 * @module
 */
import type { RunningProxy } from "./running_proxy.ts";
import { statusLine } from "./terminal.ts";

/** What is said of. */
export type ProgressSource = Pick<
  RunningProxy,
  "sources" | "state" | "ports" | "draining"
>;

/** What takes less has no need of it. */
const QUIET_MS = 500;
const LOOK_EVERY_MS = 250;

/** Lists, and then listeners: until there is nothing to wait for. */
export function startingText(proxy: ProgressSource): string {
  const listing = Object.entries(proxy.sources())
    .filter(([, { phase }]) => phase === "listing" || phase === "waiting")
    .map(([resource, { phase }]) =>
      phase === "waiting" ? `${resource} (waiting)` : resource
    );
  if (listing.length > 0) return `Listing ${listing.join(", ")}`;
  let all = 0;
  for (const { ports } of proxy.state.values()) all += ports.length;
  let open = 0;
  for (const { bindings } of proxy.ports()) {
    for (const _ of bindings) open++;
  }
  return `Opening listeners: ${open} are open, for ${all} Service ports`;
}

/** @param untilMs milliseconds that are left */
export function drainingText(proxy: ProgressSource, untilMs: number): string {
  let open = 0;
  for (const port of proxy.draining()) {
    open += port.forwarder.stats().connectionsOpen;
  }
  const left = Math.max(0, Math.ceil(untilMs / 1_000));
  return `Draining: ${open} connections are open, ${left} s are left`;
}

/**
 * Shows a text, and the next when it has changed, until the signal; nothing
 * where standard error is no terminal.
 */
export function showProgress(
  text: () => string,
  { signal, isTerminal = Deno.stderr.isTerminal() }: {
    readonly signal: AbortSignal;
    readonly isTerminal?: boolean;
  },
): void {
  if (!isTerminal || signal.aborted) return;
  const startedAt = performance.now();
  const timer = setInterval(() => {
    if (performance.now() - startedAt >= QUIET_MS) statusLine(text());
  }, LOOK_EVERY_MS);
  signal.addEventListener("abort", () => {
    clearInterval(timer);
    statusLine("");
  }, { once: true });
}
