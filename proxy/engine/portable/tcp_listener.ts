/**
 * Opens a listening socket and accepts until it is closed. In: an address.
 * Out: connections, each handed to a function that must not wait. Whatever
 * `accept` throws, the loop goes on: a listener that died silently would look
 * like an open port that nobody answers.
 *
 * @module
 */
import type { Clock } from "../../../watch/clock.ts";
import type { SharedListener } from "../../port_sharing.ts";
import type { RepeatedLog } from "../../repeated_log.ts";
import type { ListenAddress, Listener, NamespaceOpener } from "../engine.ts";
import { openAt } from "../network_namespaces.ts";
import { isClientGone, isExhausted } from "./errors.ts";
import { acceptWaiting, LAST_CLIENT_MS, Leaving } from "./leaving.ts";
import { turn } from "./turns.ts";
import { YoungConnections } from "./young_connections.ts";

/**
 * Connections the kernel completes before we accept them. The kernel lowers it
 * to net.core.somaxconn (4096 since Linux 5.4); Deno's default of 511 is full
 * within one pause of the garbage collector when thousands arrive at once.
 */
const BACKLOG = 4096;

/**
 * Clients that are turned away, or gone, before everything else has its turn.
 * Where some wait already, Deno's `accept` is back at once: a loop without this
 * would be through with thousands before it moved a byte for anybody.
 */
const UNSERVED_PER_TURN = 16;

/** Pause after an accept that failed, doubled until the maximum. */
const ACCEPT_PAUSE_MIN_MS = 10;
const ACCEPT_PAUSE_MAX_MS = 1_000;

export interface TcpListenerOptions {
  readonly clock: Clock;
  readonly log: RepeatedLog;
  readonly namespaces?: NamespaceOpener | undefined;
  /** Another process of the same user may listen there at the same time. */
  readonly reusePort?: boolean;
  /**
   * Owns the connection from here on; neither waits nor throws. Calls `grown`
   * when its first bytes have been passed on, or when it has ended.
   */
  readonly handle: (connection: Deno.TcpConn, grown: () => void) => void;
  /** Whether other listeners have clients, who would wait for ours. */
  readonly hasOthers?: () => boolean;
}

/** A listener, and the end of its accept loop. */
export interface TcpListener extends Listener, SharedListener {
  /** Resolves when the socket is gone, after `close` or `leave`. */
  readonly ended: Promise<void>;
}

/**
 * Binds, then accepts in the background.
 *
 * @throws the system's error, unchanged, if the address cannot be bound
 */
export function listenTcp(
  address: ListenAddress,
  options: TcpListenerOptions,
): TcpListener {
  const socket = openAt(address, options.namespaces, () =>
    Deno.listen({
      hostname: address.ip,
      port: address.port,
      tcpBacklog: BACKLOG,
      reusePort: options.reusePort ?? false,
    }));
  const closing = new AbortController();
  const leaving = new Leaving(() => socket.close());
  const ended = acceptAll(socket, options, closing.signal).then(() =>
    acceptWaiting(socket, options.handle, leaving)
  );
  return {
    address: { ip: socket.addr.hostname, port: socket.addr.port },
    ended,
    close() {
      if (closing.signal.aborted) return;
      closing.abort();
      leaving.close();
    },
    leave() {
      if (!closing.signal.aborted) leaving.within(LAST_CLIENT_MS);
      closing.abort();
      return ended;
    },
  };
}

async function acceptAll(
  socket: Deno.TcpListener,
  options: TcpListenerOptions,
  signal: AbortSignal,
): Promise<void> {
  const young = new YoungConnections();
  let pauseMs = ACCEPT_PAUSE_MIN_MS;
  let unserved = 0;
  const letOthersGo = () =>
    ++unserved % UNSERVED_PER_TURN === 0 ? turn() : undefined;
  while (!signal.aborted) {
    const room = young.untilRoom(options.hasOthers?.() ?? false);
    if (room !== undefined) {
      await room;
      continue;
    }
    try {
      const connection = await socket.accept();
      const one = young.add();
      options.handle(connection, () => young.grown(one));
      if (!young.has(one)) await letOthersGo();
      pauseMs = ACCEPT_PAUSE_MIN_MS;
    } catch (cause) {
      if (signal.aborted) return;
      if (isClientGone(cause)) {
        await letOthersGo();
        continue;
      }
      // Out of descriptors the connection stays in the backlog and accept
      // fails again at once: without a pause this loop would eat a core.
      options.log.report(
        isExhausted(cause) ? "accept exhausted" : "accept",
        "Cannot accept connections; trying again",
        { address: socket.addr.hostname, port: socket.addr.port, cause },
      );
      await options.clock.delay(pauseMs, signal).catch(() => {});
      pauseMs = Math.min(pauseMs * 2, ACCEPT_PAUSE_MAX_MS);
    }
  }
}
