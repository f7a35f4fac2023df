/**
 * A program for tests: clients that go on, for as long as it runs.
 *
 *     deno run load.ts PERIOD_MS tcp/10.96.0.10/80 udp/10.96.0.10/80 …
 *
 * In each period it makes a connection to every TCP address, and sends a
 * datagram to every UDP address, always from the same port. Prints a line for
 * each connection, once it ended, and for each datagram that came back:
 *
 *     1763800000123 1763800000125 tcp/10.96.0.10/80 pod1 10.244.0.1:41000
 *
 * when it began and ended, to whom, and the first line of the reply, or
 * `error: ConnectionRefused` and the like.
 *
 * @module
 */
import { createSocket } from "node:dgram";
import { print } from "../../proxy/commands/terminal.ts";
import { dial } from "./dialing.ts";

const [period = "", ...targets] = Deno.args;

for (const target of targets) {
  const [protocol, ip = "", port = ""] = target.split("/");
  const say = (start: number, reply: string) =>
    print(`${start} ${Date.now()} ${target} ${reply.split("\n")[0]}\n`);
  if (protocol === "tcp") {
    setInterval(async () => {
      const start = Date.now();
      const to = { ip, port: Number(port), timeoutMs: 3_000 };
      say(start, await dial({ protocol, ...to, text: "hello" }));
    }, Number(period));
    continue;
  }
  const socket = createSocket(ip.includes(":") ? "udp6" : "udp4");
  socket.on("message", (message, from) => {
    const text = String(message);
    const start = Number(text.split("\n")[1]);
    const isTheirs = from.address === ip && from.port === Number(port);
    say(start, isTheirs ? text : `error: reply from ${from.address}`);
  });
  setInterval(
    () => socket.send(String(Date.now()), Number(port), ip),
    Number(period),
  );
}
