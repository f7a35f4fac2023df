/**
 * One of our engines as a process, with one ServicePort for TCP and one for
 * UDP, to be measured. It prints the port.
 *
 *     deno run -A test/bench/subject.ts portable|splice WORKERS PORT IP...
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";
import type { Engine } from "../../proxy/engine/engine.ts";
import { createPortableEngine } from "../../proxy/engine/portable/engine.ts";
import { createSpliceEngine } from "../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../watch/mod.ts";
import { INTERNAL, policy } from "../conformance/engine.ts";

async function makeEngine(name: string, workers: number): Promise<Engine> {
  const clock = systemClock;
  if (name === "portable") return createPortableEngine({ clock });
  const engine = createSpliceEngine({ clock, workers });
  await engine.ready;
  return engine;
}

if (import.meta.main) {
  const [name = "", workers, port, ...ips] = Deno.args;
  const engine = await makeEngine(name, Number(workers));
  const endpoints = ips.map((ip) => ({ ip, port: Number(port) }));
  const tcp = engine.forwarder(policy(endpoints));
  const udp = engine.forwarder(policy(endpoints, { protocol: "UDP" }));
  const { address } = await tcp.listen({ ip: "127.0.0.1", port: 0 }, INTERNAL);
  await udp.listen(address, INTERNAL);
  print(`Ready on port ${address.port}\n`);
}
