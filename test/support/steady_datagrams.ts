/**
 * A program for tests: datagrams with numbers, from one port, until SIGTERM; and
 * which of them endpoint.ts has answered.
 *
 *     deno run steady_datagrams.ts 10.96.0.10 80 100
 *
 * The last argument is how many it sends in a second. Prints `heard` with the
 * first answer, and at the end, after a second for the last answers,
 * `N answered, M missing`.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { print } from "../../proxy/commands/terminal.ts";

const LAST_ANSWERS_MS = 1_000;

const [ip = "", port = "", rate = "100"] = Deno.args;
const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
const answered = new Set<number>();
let sent = 0;

socket.on("message", (message) => {
  if (answered.size === 0) print("heard\n");
  answered.add(Number(String(message).split("\n")[1]));
});
// A refused datagram, where nobody listens for a moment.
socket.on("error", () => {});
const timer = setInterval(() => {
  socket.send(String(sent++), Number(port), ip);
}, 1_000 / Number(rate));
Deno.addSignalListener("SIGTERM", () => {
  clearInterval(timer);
  setTimeout(() => {
    const { size } = answered;
    print(`${size} answered, ${sent - size} missing\n`);
    Deno.exit();
  }, LAST_ANSWERS_MS);
});
