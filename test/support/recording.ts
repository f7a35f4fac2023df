/**
 * Recorded HTTP answers (test/fixture/recordings/), and a server that sends
 * bytes exactly as they are: no framework comes between.
 *
 * @module
 */
import type { TestServer } from "./tls.ts";

const FOLDER = new URL("../fixture/recordings/", import.meta.url);

/** The bytes of a recorded answer, header included. */
export async function readRecording(name: string): Promise<Uint8Array> {
  return await Deno.readFile(new URL(name, FOLDER));
}

export interface BytesServer extends TestServer {
  /** The last request's header, as it came; empty before the first. */
  readonly requestHead: string;
}

/** Sends `answer` on each connection once a request's header is there. */
export function serveBytes(answer: Uint8Array | string): BytesServer {
  const bytes = typeof answer === "string"
    ? new TextEncoder().encode(answer)
    : answer;
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  let requestHead = "";
  const serving = (async () => {
    const connections: Promise<void>[] = [];
    for await (const connection of listener) {
      connections.push(
        answerOne(connection, bytes).then((head) => {
          requestHead = head;
        }),
      );
    }
    await Promise.all(connections);
  })();
  return {
    url: `http://127.0.0.1:${listener.addr.port}`,
    port: listener.addr.port,
    get requestHead() {
      return requestHead;
    },
    async [Symbol.asyncDispose]() {
      listener.close();
      await serving;
    },
  };
}

async function answerOne(
  connection: Deno.Conn,
  bytes: Uint8Array,
): Promise<string> {
  using _connection = connection;
  const buffer = new Uint8Array(16 * 1024);
  const decoder = new TextDecoder();
  let head = "";
  while (!head.includes("\r\n\r\n")) {
    const count = await connection.read(buffer);
    if (count === null) return head;
    head += decoder.decode(buffer.subarray(0, count), { stream: true });
  }
  for (let sent = 0; sent < bytes.length;) {
    sent += await connection.write(bytes.subarray(sent));
  }
  await connection.closeWrite();
  return head;
}
