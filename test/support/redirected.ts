/**
 * A program for tests: one splice listener for each IP family that serves two
 * Service addresses by their original destination, each with an endpoint that
 * says which it is. The last address is taken back. Prints `ready`, and its log.
 *
 *     deno run -A redirected.ts PORT 10.96.0.10 10.96.0.11 fd00:96::a …
 *
 * Every address has port 80.
 *
 * @module
 */
import { setup } from "@std/log";
import { print } from "../../proxy/commands/terminal.ts";
import { createSpliceEngine } from "../../proxy/engine/splice/engine.ts";
import { ipFamily } from "../../proxy/ip.ts";
import { systemClock } from "../../watch/mod.ts";
import { INTERNAL, policy } from "../conformance/engine.ts";
import { namedServer } from "./tcp.ts";

const [port = "", ...addresses] = Deno.args;
await setup({ level: "warn", format: "text", stacks: false, write: print });
const engine = createSpliceEngine({ clock: systemClock });
const listeners = {
  IPv4: await engine.listenForRedirected({ ip: "0.0.0.0", port: Number(port) }),
  IPv6: await engine.listenForRedirected({ ip: "::", port: Number(port) }),
};
for (const ip of addresses) {
  const server = namedServer(`serves ${ip}`);
  const forwarder = engine.forwarder(policy([server.address]));
  listeners[ipFamily(ip)].route({ ip, port: 80 }, forwarder, INTERNAL);
}
const last = addresses.at(-1) ?? "";
listeners[ipFamily(last)].unroute({ ip: last, port: 80 });
for (const listener of Object.values(listeners)) listener.start();
print("ready\n");
