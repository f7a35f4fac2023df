/**
 * One request and its answer: from `node:http`'s objects to those of the Web,
 * in which handlers are written, and back. Waits for no client longer than the
 * limits say.
 *
 * @module
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { setImmediate } from "node:timers";

export type Handler = (request: Request) => Response | Promise<Response>;

interface Pair {
  readonly incoming: IncomingMessage;
  readonly outgoing: ServerResponse;
}

/** In which an answer is sent, so that a slow reader is seen to read. */
const PIECE_BYTES = 65_536;

/** How a client is waited for. */
export interface Patience {
  /** Until it has read some of what was sent, milliseconds. */
  readonly stallMs: number;
  /** Called when such a wait begins; and what it returns, when it is over. */
  readonly onUnread: () => () => void;
}

/** Never rejects: what cannot be answered is cut. */
export async function exchange(
  { incoming, outgoing }: Pair,
  handler: Handler,
  patience: Patience,
): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => gone.abort());
  try {
    const request = toRequest(incoming, gone.signal);
    const response = request === undefined
      ? new Response("400 bad request\n", { status: 400 })
      : await handler(request);
    await send(response, { incoming, outgoing }, {
      signal: gone.signal,
      ...patience,
    });
  } catch {
    // A handler that throws is a bug of ours; what it was, it has to say itself.
    if (!outgoing.headersSent && !gone.signal.aborted) {
      outgoing.writeHead(500, { Connection: "close" }).end();
    } else incoming.socket.destroy();
  }
}

/** Undefined: it has no meaning, as with a Host that no URL can have. */
function toRequest(
  incoming: IncomingMessage,
  signal: AbortSignal,
): Request | undefined {
  const { method = "GET", url = "/", rawHeaders, socket } = incoming;
  const { host = `localhost:${socket.localPort}` } = incoming.headers;
  const hasBody = incoming.headers["transfer-encoding"] !== undefined ||
    Number(incoming.headers["content-length"] ?? 0) > 0;
  try {
    const headers = new Headers();
    for (let n = 0; n + 1 < rawHeaders.length; n += 2) {
      headers.append(rawHeaders[n]!, rawHeaders[n + 1]!);
    }
    const target = url.startsWith("/") ? `http://${host}${url}` : url;
    return new Request(target, {
      method,
      headers,
      signal,
      ...hasBody && method !== "GET" && method !== "HEAD"
        ? { body: bodyOf(incoming) }
        : {},
    });
  } catch (error) {
    if (error instanceof TypeError) return undefined;
    throw error;
  }
}

/** One that nobody wants is not read; the connection ends with the answer. */
function bodyOf(incoming: IncomingMessage): ReadableStream<Uint8Array> {
  const chunks = incoming[Symbol.asyncIterator]();
  return new ReadableStream({
    async pull(controller) {
      const { done, value } = await chunks.next();
      if (done) controller.close();
      else controller.enqueue(new Uint8Array(value));
    },
  }, { highWaterMark: 0 });
}

interface SendOptions extends Patience {
  /** The client has gone. */
  readonly signal: AbortSignal;
}

async function send(
  response: Response,
  { incoming, outgoing }: Pair,
  options: SendOptions,
): Promise<void> {
  const { signal } = options;
  outgoing.statusCode = response.status;
  for (const [name, value] of response.headers) outgoing.setHeader(name, value);
  // The rest of its request would be taken for the next one.
  if (!incoming.complete) outgoing.setHeader("Connection", "close");
  const reader = response.body?.getReader();
  const cancel = () => void reader?.cancel().catch(() => {});
  if (signal.aborted || reader === undefined || incoming.method === "HEAD") {
    cancel();
    outgoing.end();
    return;
  }
  signal.addEventListener("abort", cancel, { once: true });
  const first = reader.read();
  // A watch may have nothing to say for minutes; that it began, the head says.
  const isBegun = await settled(first) === undefined;
  if (isBegun) outgoing.flushHeaders();
  let { done, value } = await first;
  if (!done && value !== undefined) {
    const next = reader.read();
    // An answer that was complete from the start is told with its length.
    const isWhole = !isBegun && (await settled(next))?.done;
    if (isWhole && !response.headers.has(LENGTH)) {
      outgoing.setHeader(LENGTH, value.length);
    }
    await write(outgoing, value, options);
    ({ done, value } = await next);
  }
  while (!done && value !== undefined) {
    await write(outgoing, value, options);
    ({ done, value } = await reader.read());
  }
  if (signal.aborted) return;
  await until(outgoing, "finish", options, () => outgoing.end());
}

const LENGTH = "Content-Length";

/** What a promise has come to, if it needs to wait for nobody. */
function settled<T>(promise: Promise<T>): Promise<T | undefined> {
  const soon = new Promise<undefined>((resolve) =>
    setImmediate(() => resolve(undefined))
  );
  return Promise.race([promise, soon]);
}

async function write(
  outgoing: ServerResponse,
  bytes: Uint8Array,
  options: SendOptions,
): Promise<void> {
  for (let at = 0; at < bytes.length; at += PIECE_BYTES) {
    if (options.signal.aborted) return;
    const piece = bytes.subarray(at, at + PIECE_BYTES);
    if (!outgoing.write(piece)) await until(outgoing, "drain", options);
  }
}

/** Waits for it, or until the client has gone; cuts one that does not read. */
async function until(
  outgoing: ServerResponse,
  event: "drain" | "finish",
  { signal, stallMs, onUnread }: SendOptions,
  begin: () => void = () => {},
): Promise<void> {
  if (signal.aborted) return;
  const { promise, resolve } = Promise.withResolvers<void>();
  const end = () => resolve();
  const timer = setTimeout(() => {
    outgoing.destroy();
    resolve();
  }, stallMs);
  const read = onUnread();
  outgoing.once(event, end);
  signal.addEventListener("abort", end, { once: true });
  begin();
  await promise;
  read();
  clearTimeout(timer);
  outgoing.off(event, end);
  signal.removeEventListener("abort", end);
}
