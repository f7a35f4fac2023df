/**
 * A program for tests, run with `ulimit -n 100`: an engine that forwards four
 * Services to a port of 127.0.0.1. Prints their ports, then its log.
 *
 *     deno run -A few_descriptors.ts ENGINE TCP|UDP PORT
 *
 * @module
 */
import { setup } from "@std/log";
import { descriptorLimit } from "../../proxy/commands/descriptor_limit.ts";
import { print } from "../../proxy/commands/terminal.ts";
import {
  chooseEngine,
  type EngineRequest,
} from "../../proxy/engine/choose_engine.ts";
import { systemRunner } from "../../proxy/rules/command.ts";
import { systemClock } from "../../watch/mod.ts";
import { INTERNAL, policy } from "../conformance/engine.ts";
import { Child } from "./child.ts";

/** A connection takes two, and the process some thirty. */
const DESCRIPTORS = 100;

/** The engine in a process of its own, and where its Services are. */
export async function startWithFewDescriptors(
  engine: EngineRequest,
  protocol: "TCP" | "UDP",
  endpointPort: number,
): Promise<{ child: Child; services: { ip: string; port: number }[] }> {
  const child = new Child([
    "sh",
    "-c",
    `ulimit -n ${DESCRIPTORS} && exec "$0" run -A "$@"`,
    Deno.execPath(),
    new URL(import.meta.url).pathname,
    engine,
    protocol,
    String(endpointPort),
  ]);
  const [, ...ports] = await child.waitFor(
    /^ports (\d+) (\d+) (\d+) (\d+)$/m,
  );
  return {
    child,
    services: ports.map((port) => ({ ip: "127.0.0.1", port: Number(port) })),
  };
}

async function main(): Promise<void> {
  // As the proxy does. Deno 2.9.6 makes its signal handling's own sockets when
  // it first needs them, which may be any time, and panics if it then cannot.
  Deno.addSignalListener("SIGTERM", () => Deno.exit());
  await setup({ level: "warn", format: "text", stacks: false, write: print });
  const [engineName, protocol, port] = Deno.args;
  const { engine } = await chooseEngine(engineName as EngineRequest, {
    clock: systemClock,
    descriptorLimit: () =>
      descriptorLimit(systemRunner, AbortSignal.timeout(5_000)),
  });
  const ports: number[] = [];
  for (let n = 0; n < 4; n++) {
    const forwarder = engine.forwarder(
      policy([{ ip: "127.0.0.1", port: Number(port) }], {
        protocol: protocol === "UDP" ? "UDP" : "TCP",
      }),
    );
    const { address } = await forwarder.listen(
      { ip: "127.0.0.1", port: 0 },
      INTERNAL,
    );
    ports.push(address.port);
  }
  print(`ports ${ports.join(" ")}\n`);
}

if (import.meta.main) await main();
