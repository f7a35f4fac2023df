/**
 * From "this client wants the Service" to a connection with one endpoint. In:
 * a balancer and a client's address. Out: a connection, or why there is none,
 * as data: endpoints that do not answer are a Tuesday, not an exception.
 *
 * @module
 */
import {
  type ClientAddress,
  endpointKey,
  type EndpointListName,
  type LoadBalancer,
} from "../../load_balancer.ts";
import type { EndpointAddress } from "../engine.ts";
import { OWN_ADDRESS, type OwnAddresses } from "../own_addresses.ts";
import { isExhausted } from "./errors.ts";

/**
 * How long the first, second … dial of a connection may take, in milliseconds;
 * as many time-outs as there are numbers end it. The values of the first
 * kube-proxy (`EndpointDialTimeouts`, pkg/proxy/userspace/proxysocket.go).
 */
export const DIAL_TIMEOUTS_MS: readonly number[] = [250, 500, 1_000, 2_000];

/**
 * A time-out that comes so late says that this process was busy, and nothing of
 * the endpoint, which may have answered long ago. It gets its time again, since
 * otherwise a process with more to do than it can would dial everybody four
 * times, and have four times as much to do.
 */
const LATE_MS = 50;

/** The result of dialling one endpoint once. */
export type DialResult =
  | { readonly type: "connected"; readonly connection: Deno.TcpConn }
  /** The endpoint, or the network on its behalf, said no. */
  | { readonly type: "refused"; readonly cause: unknown }
  | { readonly type: "timeout" }
  /** We have no descriptor or memory left; the endpoint was not asked. */
  | { readonly type: "exhausted"; readonly cause: unknown }
  | { readonly type: "aborted" };

/**
 * Dials once. Leaves no socket behind, however it ends: Deno closes the one of
 * an aborted `connect` (tried with 2.9.6), and a connection that was made just
 * before the abort is closed here, or used if it was only the time that ran
 * out.
 */
export async function dial(
  endpoint: EndpointAddress,
  options: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<DialResult> {
  const { signal } = options;
  if (signal.aborted) return { type: "aborted" };
  const attempt = new AbortController();
  // Deno 2.9.6 asks this once more when it has connected, and by throwing loses
  // the connection, whose descriptor then stays open for ever: seen when a
  // busy machine connects and runs out of time in the same turn.
  attempt.signal.throwIfAborted = () => {};
  const abort = () => attempt.abort();
  signal.addEventListener("abort", abort, { once: true });
  // A plain timer: a Clock's delay would cost every connection an AbortSignal
  // listener and a rejected promise.
  const startedAt = performance.now();
  const { timeoutMs } = options;
  let timer = setTimeout(() => {
    const lateMs = performance.now() - startedAt - timeoutMs;
    if (lateMs < LATE_MS) return abort();
    timer = setTimeout(abort, timeoutMs);
  }, timeoutMs);
  try {
    const connection = await Deno.connect({
      hostname: endpoint.ip,
      port: endpoint.port,
      autoSelectFamily: false,
      signal: attempt.signal,
    });
    if (signal.aborted) {
      connection.close();
      return { type: "aborted" };
    }
    if (isSelfConnection(connection)) {
      connection.close();
      return { type: "refused", cause: new Error("Connected to itself") };
    }
    return { type: "connected", connection };
  } catch (cause) {
    if (signal.aborted) return { type: "aborted" };
    if (attempt.signal.aborted) return { type: "timeout" };
    if (isExhausted(cause)) return { type: "exhausted", cause };
    return { type: "refused", cause };
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", abort);
  }
}

/**
 * Dialling a port of this machine that nobody listens on, the kernel may pick
 * that very port as the source; both ends of the handshake are then our own
 * socket, and the client would get its own bytes back.
 */
function isSelfConnection(connection: Deno.TcpConn): boolean {
  const { localAddr, remoteAddr } = connection;
  return localAddr.port === remoteAddr.port &&
    localAddr.hostname === remoteAddr.hostname;
}

/** What became of a client's wish for an endpoint. */
export type ConnectResult =
  | {
    readonly type: "connected";
    readonly connection: Deno.TcpConn;
    readonly endpoint: EndpointAddress;
  }
  | {
    readonly type: "failed";
    readonly reason: "no endpoint" | "refused" | "timeout" | "exhausted";
    readonly cause?: unknown;
  }
  | { readonly type: "aborted" };

export interface ConnectOptions {
  readonly client: ClientAddress;
  /** The endpoints that this client may reach. */
  readonly list: EndpointListName;
  readonly timeoutsMs: readonly number[];
  /** What would lead back here counts as an endpoint that refuses. */
  readonly ownAddresses: OwnAddresses;
  readonly signal: AbortSignal;
  /** Told of every dial that the endpoint is to blame for. */
  readonly dialFailed: (
    endpoint: EndpointAddress,
    failure: Extract<DialResult, { type: "refused" | "timeout" }>,
  ) => void;
}

const NONE: ReadonlySet<string> = new Set();

/**
 * Dials one endpoint after another, each as the balancer names it, until one
 * answers. The balancer counts it as open then, until the caller says `closed`.
 *
 * 1. An endpoint that refused is not asked again for this connection.
 * 2. One that did not answer in time is asked again only when no other is
 *    left, with the next, longer time-out.
 * 3. It gives up when all have refused, or after as many time-outs as there
 *    are in `timeoutsMs`, or when this machine has no descriptors.
 */
export async function connectToAny(
  balancer: LoadBalancer,
  options: ConnectOptions,
): Promise<ConnectResult> {
  const { client, list, signal } = options;
  // Made when a dial fails: nearly every connection needs neither.
  let refused: Set<string> | undefined;
  let tried: Set<string> | undefined;
  let timeouts = 0;
  let last: DialResult | undefined;
  while (timeouts < options.timeoutsMs.length) {
    const endpoint = balancer.pick(client, list, tried ?? NONE) ??
      balancer.pick(client, list, refused ?? NONE);
    if (endpoint === undefined) break;
    const key = endpointKey(endpoint);
    balancer.opened(key);
    last = options.ownAddresses.has(key)
      ? { type: "refused", cause: new Error(OWN_ADDRESS) }
      : await dial(endpoint, {
        timeoutMs: options.timeoutsMs[timeouts]!,
        signal,
      });
    if (last.type === "connected") {
      return { type: "connected", connection: last.connection, endpoint };
    }
    balancer.closed(key);
    switch (last.type) {
      case "aborted":
        return last;
      case "exhausted":
        return { type: "failed", reason: "exhausted", cause: last.cause };
      case "refused":
        (refused ??= new Set()).add(key);
        break;
      case "timeout":
        timeouts++;
        break;
    }
    // All have been asked: those that were silent get another turn, this one
    // last. With affinity, an empty set would bring us back to it.
    if (tried?.has(key)) tried = new Set(refused);
    (tried ??= new Set()).add(key);
    options.dialFailed(endpoint, last);
  }
  if (last === undefined) return { type: "failed", reason: "no endpoint" };
  return last.type === "refused"
    ? { type: "failed", reason: "refused", cause: last.cause }
    : { type: "failed", reason: "timeout" };
}
