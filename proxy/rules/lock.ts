/**
 * One process at a time steers a machine: two would take each other's rules for
 * leftovers. The lock is a listening socket with a name and no file (Linux's
 * abstract names): there is one such name in each network namespace, which is
 * what rules and routes belong to, and it is gone with its process, however
 * that ends.
 *
 * Whoever connects is told who holds it, and may go on talking: a process that
 * is to take over does (`../handover/`).
 *
 * @module
 */
import { getLogger } from "@std/log";
import { SteeringError } from "../steering.ts";

const logger = getLogger("rules");

/** NUL is how abstract names begin; `ss -xl` shows `@kube-portal`. */
const LOCK_NAME = "\0kube-portal";

/** A holder that is stopped, or busy, does not answer. */
const ANSWER_TIMEOUT_MS = 1_000;

/** Held until it is disposed, or the process ends. */
export interface SteeringLock extends Disposable {
  /**
   * From now on, who has connected and was told who holds the lock is given to
   * this function, which owns the connection. Missing where there is no lock.
   */
  serve?(talk: (connection: Deno.Conn) => Promise<void>): void;
}

/** Somebody else has it. */
export interface LockHolder {
  /** `pid 4711`, or as much as is known. */
  readonly heldBy: string;
  readonly purpose: LockPurpose;
}

/** `clean`: only for as long as it takes to remove rules. */
export type LockPurpose = "steer" | "clean";

/** Takes the lock of this network namespace, or says who has it. */
export type TakeLock = (
  purpose: LockPurpose,
) => Promise<SteeringLock | LockHolder>;

/** Whether a lock was not to be had. */
export function isHeld(
  result: SteeringLock | LockHolder,
): result is LockHolder {
  return "heldBy" in result;
}

/**
 * The real one.
 *
 * Any local process can take the name first, as with every abstract socket, and
 * keep us from steering; it can do no more than that. Where the system has no
 * abstract names (not Linux) or does not let us make one, nobody is kept out,
 * and the log says so.
 */
export async function takeSteeringLock(
  purpose: LockPurpose,
  name: string = LOCK_NAME,
): Promise<SteeringLock | LockHolder> {
  // Twice: the one who had it may end between our two looks.
  for (let tries = 0; tries < 2; tries++) {
    try {
      return hold(Deno.listen({ transport: "unix", path: name }), purpose);
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) {
        logger.warn("Cannot take the lock; another kube-portal may interfere", {
          cause: error,
        });
        return { [Symbol.dispose]: () => {} };
      }
    }
    const holder = await askHolder(name);
    if (holder !== undefined) return holder;
  }
  return parseAnswer("");
}

export interface LockOptions {
  readonly signal: AbortSignal;
  /** Default: the machine's. */
  readonly takeLock?: TakeLock;
}

/**
 * Takes the machine for whoever leads packets on it, in any mode. A cleanup is
 * waited for.
 *
 * @throws {SteeringError} if another process steers
 */
export async function lockToSteer(options: LockOptions): Promise<SteeringLock> {
  const lock = await takeAfterCleanups("steer", options);
  if (!isHeld(lock)) return lock;
  throw new SteeringError(
    `Cannot steer: kube-portal (${lock.heldBy}) does so on this machine already; stop it first, or replace it with --take-over`,
  );
}

/**
 * Takes the machine for a cleanup. Another one is waited for.
 *
 * @throws {SteeringError} if a process steers
 */
export async function lockToClean(options: LockOptions): Promise<SteeringLock> {
  const lock = await takeAfterCleanups("clean", options);
  if (!isHeld(lock)) return lock;
  throw new SteeringError(
    `Cannot clean up: kube-portal (${lock.heldBy}) is steering this machine; stop it first`,
  );
}

/** @returns the holder, if that is one who steers */
async function takeAfterCleanups(
  purpose: LockPurpose,
  { signal, takeLock = takeSteeringLock }: LockOptions,
): Promise<SteeringLock | LockHolder> {
  for (;;) {
    signal.throwIfAborted();
    const lock = await takeLock(purpose);
    if (!isHeld(lock) || lock.purpose === "steer") return lock;
    await new Promise((resolve) => setTimeout(resolve, CLEANUP_POLL_MS));
  }
}

const CLEANUP_POLL_MS = 50;

/** Who has the lock now, without taking it; undefined if nobody has. */
export function steeringLockHolder(
  name: string = LOCK_NAME,
): Promise<LockHolder | undefined> {
  return askHolder(name);
}

function hold(
  listener: Deno.UnixListener,
  purpose: LockPurpose,
): SteeringLock {
  // It alone is no reason to go on running.
  listener.unref();
  let talk = (connection: Deno.Conn) => Promise.resolve(connection.close());
  answerAll(listener, {
    answer: `${purpose} pid ${Deno.pid}\n`,
    talk: (connection) => talk(connection),
  });
  let isHeld = true;
  return {
    serve(next) {
      talk = next;
    },
    [Symbol.dispose]() {
      if (isHeld) listener.close();
      isHeld = false;
    },
  };
}

/** Tells everybody who asks. Ends when the listener is closed. */
async function answerAll(
  listener: Deno.UnixListener,
  { answer, talk }: {
    readonly answer: string;
    readonly talk: (connection: Deno.Conn) => Promise<void>;
  },
): Promise<void> {
  const bytes = new TextEncoder().encode(answer);
  for await (const connection of listener) {
    try {
      await connection.write(bytes);
    } catch {
      // Who asked has gone.
      connection.close();
      continue;
    }
    talk(connection);
  }
}

/** Who holds the lock, and a connection to it; none if it is silent. */
export interface HolderConnection {
  readonly holder: LockHolder;
  readonly connection: Deno.Conn | undefined;
}

/** Connects, and hears who it is; `undefined` if nobody has the lock. */
export async function connectToHolder(
  name: string = LOCK_NAME,
): Promise<HolderConnection | undefined> {
  let connection: Deno.UnixConn;
  try {
    connection = await Deno.connect({ transport: "unix", path: name });
  } catch {
    return undefined;
  }
  let isSilent = false;
  const timer = setTimeout(() => {
    isSilent = true;
    connection.close();
  }, ANSWER_TIMEOUT_MS);
  let answer = "";
  try {
    const buffer = new Uint8Array(64);
    const length = await connection.read(buffer) ?? 0;
    answer = new TextDecoder().decode(buffer.subarray(0, length));
  } catch {
    // Silent, or gone: then it has no name.
  } finally {
    clearTimeout(timer);
  }
  const holder = parseAnswer(answer);
  return { holder, connection: isSilent ? undefined : connection };
}

async function askHolder(name: string): Promise<LockHolder | undefined> {
  const found = await connectToHolder(name);
  found?.connection?.close();
  return found?.holder;
}

/** Anybody may answer anything: what is not known is not repeated. */
function parseAnswer(answer: string): LockHolder {
  const match = /^(steer|clean) (pid \d+)\n$/.exec(answer);
  return {
    heldBy: match?.[2] ?? "a process that does not say who it is",
    purpose: match?.[1] === "clean" ? "clean" : "steer",
  };
}
