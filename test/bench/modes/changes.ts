/**
 * The client that waits for changes: a process that writes objects to the API
 * server when it is asked on standard input, connects again and again until the
 * endpoint that they name answers, and says how long both took.
 *
 * @module
 */
import { print } from "../../../proxy/commands/terminal.ts";
import { type KubeObject, KubeWriter } from "../../support/kube_objects.ts";
import { REQUEST_AND_CLOSE } from "../load/protocol.ts";

/** One change, and what shows it. One line of JSON. */
export interface Change {
  readonly server: string;
  /** Made in this order, or overwritten where `verb` says so. */
  readonly objects: readonly KubeObject[];
  readonly verb: "create" | "replace";
  /** Where to connect to. */
  readonly ip: string;
  readonly port: number;
  /** What the endpoint says that shows the change. */
  readonly want: string;
  readonly timeoutMs: number;
}

/** Milliseconds, both from the first request on. */
export interface Effect {
  /** Until the API server has answered the last request. */
  readonly writtenMs: number;
  /** Until a connection had the answer that was wanted; missing: none had. */
  readonly effectMs?: number;
}

/** From one connection to the next: they are not to take the CPU from others. */
const PAUSE_MS = 1;
/** No single connection takes so long, unless its packets are lost. */
const DIAL_MS = 500;

/** Writes, and connects until it shows. */
async function effect(change: Change): Promise<Effect> {
  const { server, objects, verb, timeoutMs } = change;
  const startedAt = performance.now();
  const written = new KubeWriter(server)[verb](...objects)
    .then(() => performance.now() - startedAt);
  // Whoever awaits it below hears of a failure; nobody is to die of it before.
  written.catch(() => {});
  while (performance.now() - startedAt < timeoutMs) {
    if (await reply(change) === change.want) {
      const effectMs = performance.now() - startedAt;
      return { writtenMs: await written, effectMs };
    }
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
  return { writtenMs: await written };
}

/** What one connection hears; nothing where it is refused, or lost. */
async function reply({ ip, port }: Change): Promise<string> {
  const signal = AbortSignal.timeout(DIAL_MS);
  try {
    using connection = await Deno.connect({ hostname: ip, port, signal });
    const close = () => connection.close();
    signal.addEventListener("abort", close);
    // Those that were endpoints before the change answer at once, too.
    await connection.write(REQUEST_AND_CLOSE);
    const buffer = new Uint8Array(64);
    const count = await connection.read(buffer);
    signal.removeEventListener("abort", close);
    return new TextDecoder().decode(buffer.subarray(0, count ?? 0));
  } catch {
    return "";
  }
}

if (import.meta.main) {
  let text = "";
  for await (
    const chunk of Deno.stdin.readable.pipeThrough(new TextDecoderStream())
  ) {
    text += chunk;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      const change = JSON.parse(text.slice(0, end)) as Change;
      text = text.slice(end + 1);
      print(`${JSON.stringify(await effect(change))}\n`);
    }
  }
}
