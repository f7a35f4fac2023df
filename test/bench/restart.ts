/**
 * What clients notice of a new process: one that takes over, and one that is
 * started after `kill -9`. 500 new connections a second to one Service on
 * loopback go on all the time; printed is how many of them failed, and how long
 * after the start of the new process the first one succeeded.
 *
 * In a network namespace of its own, so that it takes over from nobody else:
 *
 *     unshare -Urn sh -c 'ip link set lo up; deno run -A test/bench/restart.ts'
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import type { Child } from "../support/child.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import {
  LOOPBACK_SERVICE,
  loopbackService,
} from "../support/loopback_service.ts";
import { percentiles } from "../support/percentiles.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const RATE = 500;
const SERVICE = {
  hostname: LOOPBACK_SERVICE.ip,
  port: LOOPBACK_SERVICE.port,
};
const ENGINES = ["splice", "portable"] as const;

interface Outcome {
  readonly startedAt: number;
  readonly isAnswered: boolean;
}

/** Connections that are made whatever becomes of the others. */
class Clients {
  readonly outcomes: Outcome[] = [];
  readonly #open = new Set<Promise<void>>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor() {
    const startedAt = performance.now();
    let begun = 0;
    this.#timer = setInterval(() => {
      const due = (performance.now() - startedAt) / 1_000 * RATE;
      for (; begun < due; begun++) this.#begin();
    }, 2);
  }

  #begin(): void {
    const startedAt = performance.now();
    const done = ask().then((isAnswered) => {
      this.outcomes.push({ startedAt, isAnswered });
    });
    this.#open.add(done);
    done.then(() => this.#open.delete(done));
  }

  /** The first one that began after this and was answered. */
  async answeredAfter(time: number): Promise<number> {
    for (;;) {
      const found = this.outcomes.find((each) =>
        each.isAnswered && each.startedAt >= time
      );
      if (found !== undefined) return found.startedAt - time;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  async end(): Promise<void> {
    clearInterval(this.#timer);
    await Promise.all(this.#open);
  }
}

async function ask(): Promise<boolean> {
  try {
    using connection = await Deno.connect(SERVICE);
    await connection.write(new Uint8Array([1]));
    return await connection.read(new Uint8Array(1)) === 1;
  } catch {
    return false;
  }
}

function start(manifests: string, engine: string): Child {
  return startKubePortal([
    "--steer=none",
    "--take-over",
    `--engine=${engine}`,
    "--healthz-bind-address=127.0.0.1:10256",
    `--manifests=${manifests}`,
  ]);
}

async function measure(
  engine: string,
  { manifests, rounds, isCrash }: {
    readonly manifests: string;
    readonly rounds: number;
    readonly isCrash: boolean;
  },
): Promise<readonly string[]> {
  await using stack = new AsyncDisposableStack();
  let proxy = stack.use(start(manifests, engine));
  await proxy.waitFor(" Ready ");
  const clients = new Clients();
  await clients.answeredAfter(0);
  const waits: number[] = [];
  for (let round = 0; round < rounds; round++) {
    if (isCrash) {
      proxy.kill("SIGKILL");
      await proxy.ended;
    }
    const startedAt = performance.now();
    const next = stack.use(start(manifests, engine));
    if (isCrash) waits.push(await clients.answeredAfter(startedAt));
    await next.waitFor(" Ready ");
    await proxy.ended;
    proxy = next;
  }
  await clients.end();
  const failed = clients.outcomes.filter(({ isAnswered }) => !isAnswered);
  return [
    isCrash ? `kill -9, ${rounds} times` : `take over, ${rounds} times`,
    engine,
    String(clients.outcomes.length),
    String(failed.length),
    ...isCrash ? percentiles(waits) : ["", "", ""],
  ];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { rounds: { type: "string", default: "10" } },
  });
  const rounds = Number(values.rounds);
  await using folder = await temporaryFolder();
  using endpoint = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  answer(endpoint);
  await folder.write(
    "web.yaml",
    loopbackService({ ip: "127.0.0.1", port: endpoint.addr.port }),
  );
  const manifests = folder.path;
  const rows: (readonly string[])[] = [];
  for (const isCrash of [false, true]) {
    for (const engine of ENGINES) {
      rows.push(await measure(engine, { manifests, rounds, isCrash }));
    }
  }
  const first = "FIRST ANSWER AFTER THE START: P50";
  print(table(
    ["WHAT", "ENGINE", "CONNECTIONS", "FAILED", first, "P99", "MAX"],
    rows,
  ));
}

async function answer(listener: Deno.TcpListener): Promise<void> {
  for await (const connection of listener) {
    connection.readable.pipeTo(connection.writable).catch(() => {});
  }
}

if (import.meta.main) {
  await main();
  Deno.exit();
}
