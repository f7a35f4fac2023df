/**
 * A program for a test, run with `ulimit -n 100`: forwards to a port of
 * 127.0.0.1. Prints its own port, then its log.
 *
 *     deno run -A few_descriptors.ts PORT
 *
 * @module
 */
import { setup } from "@std/log";
import { print } from "../../../../proxy/commands/terminal.ts";
import { createSpliceEngine } from "../../../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { INTERNAL, policy } from "../../../conformance/engine.ts";

// As the proxy does. Deno 2.9.6 makes its signal handling's own sockets when it
// first needs them, which may be any time, and panics if it then cannot.
Deno.addSignalListener("SIGTERM", () => Deno.exit());
await setup({ level: "warn", format: "text", stacks: false, write: print });
const forwarder = createSpliceEngine({ clock: systemClock }).forwarder(
  policy([{ ip: "127.0.0.1", port: Number(Deno.args[0]) }]),
);
const { address } = await forwarder.listen(
  { ip: "127.0.0.1", port: 0 },
  INTERNAL,
);
print(`${address.port}\n`);
