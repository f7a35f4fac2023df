/**
 * `kube-portal status`: what the running proxy says of itself, as a table, as
 * JSON, or again and again. Asks the dashboard's JSON answer; needs no other
 * access to the proxy.
 *
 * @module
 */
import { formatHostPort } from "../ip.ts";
import type { PortStatus, StatusDocument } from "../status/dashboard.ts";
import type { Overview } from "../status/status_board.ts";
import { type BindAddress, bindAddress } from "./addresses.ts";
import { UserError } from "./errors.ts";
import { STATUS_FLAGS } from "./flag_tables.ts";
import { parseFlags } from "./flags.ts";
import { untilSignal } from "./signals.ts";
import { statusText } from "./status_words.ts";
import { print } from "./terminal.ts";

/** A proxy on this machine that says nothing for so long is not there. */
const ANSWER_TIMEOUT_MS = 5_000;
const REFRESH_MS = 2_000;

/** To the top left, and away with what was there. */
const CLEAR = "\x1b[H\x1b[2J\x1b[3J";

export async function statusCommand(args: readonly string[]): Promise<number> {
  const flags = parseFlags(args, STATUS_FLAGS);
  if (flags.json && flags.watch) {
    throw new UserError("Cannot use --json together with --watch");
  }
  const address = bindAddress(flags["metrics-bind-address"], {
    flag: "metrics-bind-address",
    defaultPort: 10249,
  });
  if (address === undefined) {
    throw new UserError("Flag --metrics-bind-address needs a value");
  }
  using client = Deno.createHttpClient({});
  const proxy = new RemoteProxy(address, client);
  await proxy.look();
  if (flags.json) {
    print(JSON.stringify(proxy.document(), null, 2) + "\n");
    return 0;
  }
  print((flags.watch ? CLEAR : "") + statusText(proxy));
  if (flags.watch) await watch(proxy);
  return 0;
}

async function watch(proxy: RemoteProxy): Promise<void> {
  let isOver = false;
  const over = untilSignal().then(() => {
    isOver = true;
  });
  while (!isOver) {
    await Promise.race([over, pause(REFRESH_MS)]);
    if (isOver) return;
    try {
      await proxy.look();
      print(CLEAR + statusText(proxy));
    } catch (error) {
      // It may be restarting: the last picture stays, with the reason under it.
      if (!(error instanceof UserError)) throw error;
      print(`${CLEAR}${statusText(proxy)}\n${error.message}\n`);
    }
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** The status of a proxy in another process, kept up to date by differences. */
class RemoteProxy {
  readonly #address: BindAddress;
  readonly #client: Deno.HttpClient;
  readonly #ports = new Map<string, PortStatus>();
  #last: StatusDocument | undefined;

  constructor(address: BindAddress, client: Deno.HttpClient) {
    this.#address = address;
    this.#client = client;
  }

  get overview(): Overview | undefined {
    return this.#last?.overview;
  }

  /** By name, then protocol and family. */
  get ports(): PortStatus[] {
    return [...this.#ports.values()].sort((a, b) =>
      a.row.id < b.row.id ? -1 : 1
    );
  }

  /** @throws {UserError} if no proxy answers */
  async look(): Promise<void> {
    const next = await this.#ask();
    if (next.isComplete) this.#ports.clear();
    for (const port of next.ports) this.#ports.set(port.row.id, port);
    for (const id of next.removed) this.#ports.delete(id);
    this.#last = next;
  }

  /** For scripts: everything, in one object. */
  document() {
    return {
      overview: this.overview,
      ports: this.ports.map(({ row, counts, endpoints }) => ({
        ...row,
        counts,
        endpoints,
      })),
      events: this.#last?.events ?? [],
    };
  }

  async #ask(): Promise<StatusDocument> {
    const { ip, port } = this.#address;
    const where = formatHostPort(ip, port);
    const since = encodeURIComponent(this.#last?.cursor ?? "");
    let response;
    try {
      response = await fetch(`http://${where}/api/status?since=${since}`, {
        client: this.#client,
        signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS),
      });
      if (response.ok) return await response.json() as StatusDocument;
      await response.body?.cancel();
    } catch {
      throw new UserError(
        `No proxy answers on ${where}; start one, or name its address with --metrics-bind-address`,
      );
    }
    throw new UserError(
      `What listens on ${where} answers ${response.status} and shows no status; name the dashboard's address with --metrics-bind-address`,
    );
  }
}
