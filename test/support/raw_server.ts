/**
 * An HTTP/1.1 server that does exactly what a test tells it, down to the byte
 * and to the moment: half a line, a chunk that never ends, a connection that
 * breaks. One request a connection.
 *
 * @module
 */

export interface RawRequest {
  readonly path: string;
  readonly query: URLSearchParams;
  readonly isWatch: boolean;
  /** Counts all requests, from 1. */
  readonly number: number;
  /** Aborted when the client hangs up, and when the server is disposed. */
  readonly gone: AbortSignal;
}

export type RawHandler = (
  request: RawRequest,
  reply: RawReply,
) => Promise<void> | void;

/** One answer. Writing to a client that hung up is no error. */
export class RawReply {
  readonly #conn: Deno.Conn;
  #isOpen = true;

  constructor(conn: Deno.Conn) {
    this.#conn = conn;
  }

  get isOpen(): boolean {
    return this.#isOpen;
  }

  async write(data: string | Uint8Array): Promise<void> {
    let rest = typeof data === "string" ? new TextEncoder().encode(data) : data;
    try {
      while (rest.length > 0) {
        rest = rest.subarray(await this.#conn.write(rest));
      }
    } catch {
      this.close();
    }
  }

  /** A complete answer. */
  async json(
    value: unknown,
    options: { status?: number; headers?: Record<string, string> } = {},
  ): Promise<void> {
    const body = new TextEncoder().encode(JSON.stringify(value));
    await this.head(options.status ?? 200, {
      "content-type": "application/json",
      "content-length": String(body.length),
      connection: "close",
      ...options.headers,
    });
    await this.write(body);
    this.close();
  }

  /** A complete refusal, as an API server words it. */
  refuse(
    code: number,
    options: { reason?: string; headers?: Record<string, string> } = {},
  ): Promise<void> {
    const { reason, headers } = options;
    const status = { kind: "Status", status: "Failure", code, message: "no" };
    return this.json({ ...status, ...(reason ? { reason } : {}) }, {
      status: code,
      ...(headers ? { headers } : {}),
    });
  }

  head(status: number, headers: Record<string, string>): Promise<void> {
    const lines = Object.entries(headers).map(([k, v]) => `${k}: ${v}\r\n`);
    return this.write(`HTTP/1.1 ${status} Status\r\n${lines.join("")}\r\n`);
  }

  /** Begins a chunked answer, as a watch is. */
  begin(headers: Record<string, string> = {}): Promise<void> {
    return this.head(200, {
      "content-type": "application/json",
      "transfer-encoding": "chunked",
      connection: "close",
      ...headers,
    });
  }

  async chunk(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === "string"
      ? new TextEncoder().encode(data)
      : data;
    await this.write(`${bytes.length.toString(16)}\r\n`);
    await this.write(bytes);
    await this.write("\r\n");
  }

  /** One watch event as one line. */
  event(type: string, object: unknown): Promise<void> {
    return this.chunk(JSON.stringify({ type, object }) + "\n");
  }

  /** Ends a chunked answer as it should be ended. */
  async end(): Promise<void> {
    await this.write("0\r\n\r\n");
    this.close();
  }

  /** Breaks the connection, whatever has been said. */
  close(): void {
    if (!this.#isOpen) return;
    this.#isOpen = false;
    try {
      this.#conn.close();
    } catch {
      // The client was faster.
    }
  }
}

export class RawServer implements AsyncDisposable {
  readonly #listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  readonly #handler: RawHandler;
  readonly #connections = new Set<Promise<void>>();
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;
  /** Every request so far, as `/path?query`. */
  readonly requests: RawRequest[] = [];

  constructor(handler: RawHandler) {
    this.#handler = handler;
    this.#running = this.#accept();
  }

  get url(): string {
    return `http://127.0.0.1:${(this.#listener.addr as Deno.NetAddr).port}`;
  }

  async #accept(): Promise<void> {
    for await (const conn of this.#listener) {
      const connection = this.#serve(conn).finally(() =>
        this.#connections.delete(connection)
      );
      this.#connections.add(connection);
    }
  }

  async #serve(conn: Deno.Conn): Promise<void> {
    const reply = new RawReply(conn);
    const gone = new AbortController();
    const stop = () => {
      gone.abort();
      reply.close();
    };
    this.#stop.signal.addEventListener("abort", stop);
    try {
      const target = await readRequestTarget(conn);
      if (target === undefined) return;
      const url = new URL(target, "http://server");
      const request: RawRequest = {
        path: url.pathname,
        query: url.searchParams,
        isWatch: url.searchParams.has("watch"),
        number: this.requests.length + 1,
        gone: gone.signal,
      };
      this.requests.push(request);
      const hangUp = untilClosed(conn).then(() => gone.abort());
      await this.#handler(request, reply);
      await hangUp;
    } finally {
      this.#stop.signal.removeEventListener("abort", stop);
      reply.close();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    this.#stop.abort();
    await this.#running;
    await Promise.all(this.#connections);
  }
}

/** Resolves when the request's client is gone: for a stream that stays open. */
export function untilGone(request: RawRequest): Promise<void> {
  return new Promise((resolve) => {
    if (request.gone.aborted) return resolve();
    request.gone.addEventListener("abort", () => resolve(), { once: true });
  });
}

async function readRequestTarget(conn: Deno.Conn): Promise<string | undefined> {
  const buffer = new Uint8Array(16 * 1024);
  let text = "";
  while (!text.includes("\r\n\r\n")) {
    const count = await conn.read(buffer).catch(() => null);
    if (count === null) return undefined;
    text += new TextDecoder().decode(buffer.subarray(0, count));
  }
  return text.split(" ")[1];
}

async function untilClosed(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(1024);
  try {
    while (await conn.read(buffer) !== null);
  } catch {
    // Closed on this side.
  }
}
