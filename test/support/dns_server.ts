/**
 * A program for tests: a DNS server like a cluster's, for A records, over UDP
 * and TCP. Names that begin with `long.` are too long for a datagram: it says so
 * there (the TC bit), and a resolver asks again over TCP.
 *
 *     deno run dns_server.ts 10.244.0.2 53 web.default.svc.cluster.local=10.96.0.10
 *
 * Prints `ready` once both are open.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { print } from "../../proxy/commands/terminal.ts";

const [ip = "", port = "", ...records] = Deno.args;
const addresses = new Map(
  records.map((record) => record.split("=") as [string, string]),
);

const HEADER_BYTES = 12;
const TRUNCATED = 0x02;
const NAME_ERROR = 3;

/** The answer to a query with one question (RFC 1035, section 4). */
function answer(query: Uint8Array, over: "udp" | "tcp"): Uint8Array {
  const labels: string[] = [];
  let at = HEADER_BYTES;
  while (query[at] !== 0) {
    const end = at + 1 + query[at]!;
    labels.push(new TextDecoder().decode(query.subarray(at + 1, end)));
    at = end;
  }
  const question = query.subarray(HEADER_BYTES, at + 5);
  const name = labels.join(".").toLowerCase();
  const address = addresses.get(name);
  const isA = question.at(-3) === 1;
  const isCut = over === "udp" && name.startsWith("long.");
  const record = address === undefined || !isA || isCut ? [] : [
    // The question's name, A, IN, 5 s, four bytes.
    [0xc0, HEADER_BYTES, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4],
    address.split(".").map(Number),
  ].flat();
  const flags = [
    0x84 | (isCut ? TRUNCATED : 0),
    address === undefined ? NAME_ERROR : 0,
  ];
  const counts = [0, 1, 0, record.length > 0 ? 1 : 0, 0, 0, 0, 0];
  return Uint8Array.from([
    ...query.subarray(0, 2),
    ...flags,
    ...counts,
    ...question,
    ...record,
  ]);
}

async function serveTcp(conn: Deno.TcpConn): Promise<void> {
  using _conn = conn;
  const buffer = new Uint8Array(1_024);
  let length = 0;
  // A message begins with its length.
  while (length < 2 || length < 2 + buffer[0]! * 256 + buffer[1]!) {
    const more = await conn.read(buffer.subarray(length));
    if (more === null) return;
    length += more;
  }
  const reply = answer(buffer.subarray(2, length), "tcp");
  await conn.write(
    Uint8Array.from([reply.length >> 8, reply.length & 255, ...reply]),
  );
}

const socket = createSocket("udp4");
socket.on(
  "message",
  (query, from) => socket.send(answer(query, "udp"), from.port, from.address),
);
socket.bind(Number(port), ip);
await once(socket, "listening");
const listener = Deno.listen({ hostname: ip, port: Number(port) });
print("ready\n");
for await (const conn of listener) serveTcp(conn).catch(() => {});
