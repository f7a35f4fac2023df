/**
 * One process at a time steers a machine: two would take each other's rules for
 * leftovers. The lock is a listening socket with a name and no file (Linux's
 * abstract names): there is one such name in each network namespace, which is
 * what rules and routes belong to, and it is gone with its process, however
 * that ends.
 *
 * Whoever connects is told who holds it. A later process can ask for more this
 * way, such as to take over, without another mechanism.
 *
 * @module
 */
import { getLogger } from "@std/log";

const logger = getLogger("rules");

/** NUL is how abstract names begin; `ss -xl` shows `@kube-portal`. */
const LOCK_NAME = "\0kube-portal";

/** A holder that is stopped, or busy, does not answer. */
const ANSWER_TIMEOUT_MS = 1_000;

/** Held until it is disposed, or the process ends. */
export type SteeringLock = Disposable;

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
    const answer = await askHolder(name);
    if (answer !== undefined) return parseAnswer(answer);
  }
  return parseAnswer("");
}

/** Who has the lock now, without taking it; undefined if nobody has. */
export async function steeringLockHolder(
  name: string = LOCK_NAME,
): Promise<LockHolder | undefined> {
  const answer = await askHolder(name);
  return answer === undefined ? undefined : parseAnswer(answer);
}

function hold(
  listener: Deno.UnixListener,
  purpose: LockPurpose,
): SteeringLock {
  // It alone is no reason to go on running.
  listener.unref();
  answerAll(listener, `${purpose} pid ${Deno.pid}\n`);
  return { [Symbol.dispose]: () => listener.close() };
}

/** Tells everybody who asks. Ends when the listener is closed. */
async function answerAll(
  listener: Deno.UnixListener,
  answer: string,
): Promise<void> {
  const bytes = new TextEncoder().encode(answer);
  for await (const conn of listener) {
    try {
      await conn.write(bytes);
    } catch {
      // Who asked has gone.
    } finally {
      conn.close();
    }
  }
}

/** What the holder answers: nothing, if it is silent; `undefined`, if it is gone. */
async function askHolder(path: string): Promise<string | undefined> {
  let conn: Deno.UnixConn;
  try {
    conn = await Deno.connect({ transport: "unix", path });
  } catch {
    return undefined;
  }
  const timer = setTimeout(() => conn.close(), ANSWER_TIMEOUT_MS);
  try {
    const buffer = new Uint8Array(64);
    const length = await conn.read(buffer) ?? 0;
    return new TextDecoder().decode(buffer.subarray(0, length));
  } catch {
    return "";
  } finally {
    clearTimeout(timer);
    try {
      conn.close();
    } catch {
      // The timer did.
    }
  }
}

/** Anybody may answer anything: what is not known is not repeated. */
function parseAnswer(answer: string): LockHolder {
  const match = /^(steer|clean) (pid \d+)\n$/.exec(answer);
  return {
    heldBy: match?.[2] ?? "a process that does not say who it is",
    purpose: match?.[1] === "clean" ? "clean" : "steer",
  };
}
