/**
 * A program for tests: a UDP client that keeps its source port and sends ten
 * times a second, for as long as it runs.
 *
 *     deno run udp_client.ts 10.96.0.10 53
 *
 * Prints `answer NAME` when it hears another endpoint than before (or one, after
 * half a second of nothing), and `stranger IP` when an answer comes from an
 * address that was not asked.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { print } from "../../proxy/commands/terminal.ts";

const PERIOD_MS = 100;
const SILENCE_MS = 500;

const [ip = "", port = ""] = Deno.args;
const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
let last = "";
let heardAt = 0;

socket.on("message", (message, from) => {
  if (from.address !== ip || from.port !== Number(port)) {
    print(`stranger ${from.address}:${from.port}\n`);
    return;
  }
  const [name = ""] = String(message).split(" ");
  const silent = performance.now() - heardAt > SILENCE_MS;
  heardAt = performance.now();
  if (name !== last || silent) print(`answer ${name}\n`);
  last = name;
});
setInterval(() => socket.send("still here", Number(port), ip), PERIOD_MS);
