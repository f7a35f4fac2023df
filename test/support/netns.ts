/**
 * A node, its pods and hosts beside it, each a network namespace of this
 * machine:
 *
 *     pod1 10.244.0.2 ─┐                  ┌─ outside 192.0.2.12
 *     pod2 10.244.0.3 ─┴─ cbr0 node eth0 ─┴─ lan (a switch)
 *               10.244.0.1      192.0.2.11     192.0.2.1
 *
 * and the same in IPv6. With root it takes network namespaces only; without, a
 * user namespace that holds them. Nothing has a name and nothing is left: a
 * namespace lives as long as the process that holds it, and that ends with the
 * standard input that this process gives it, even after `kill -9`.
 *
 * @module
 */
import { type CommandRunner, systemRunner } from "../../proxy/rules/command.ts";
import { Child, type ChildOptions } from "./child.ts";
import type { Dial } from "./dialing.ts";
import { findProgram, type Need } from "./needs.ts";

export interface NetworkOptions {
  /** How many pods the node has. Default: 2. */
  readonly pods?: number;
  /** Hosts beside the node, by name: `outside`, `node2`. Default: none. */
  readonly hosts?: readonly string[];
}

/** One network namespace, and how to do things in it. */
export class Namespace {
  readonly name: string;
  /** Its own addresses; the node's are those on `eth0`, or else on `cbr0`. */
  readonly ipv4: string;
  readonly ipv6: string;
  readonly #enter: readonly [string, ...string[]];

  constructor(
    name: string,
    holderPid: number,
    addresses: { ipv4: string; ipv6: string },
  ) {
    this.name = name;
    this.ipv4 = addresses.ipv4;
    this.ipv6 = addresses.ipv6;
    this.#enter = enter(holderPid);
  }

  /** Runs real programs in here: what a steering strategy takes. */
  get runner(): CommandRunner {
    return {
      run: (command, options) =>
        systemRunner.run([...this.#enter, ...command], options),
    };
  }

  /**
   * Runs a program to its end.
   *
   * @returns its standard output
   * @throws {CommandError} if it fails, or takes longer than `timeoutMs`
   */
  run(
    command: readonly [string, ...string[]],
    options: { stdin?: string; timeoutMs?: number } = {},
  ): Promise<string> {
    const { timeoutMs = 30_000, ...rest } = options;
    const signal = AbortSignal.timeout(timeoutMs);
    return this.runner.run(command, { ...rest, signal });
  }

  /**
   * Starts a program that goes on; dispose it. It is killed if this process
   * dies before.
   */
  start(
    command: readonly [string, ...string[]],
    options: ChildOptions = {},
  ): Child {
    return new Child(this.tied(command), options);
  }

  /** The command that `start` starts, for those who start it themselves. */
  tied(command: readonly [string, ...string[]]): [string, ...string[]] {
    // Innermost, since a change of credentials clears it.
    return [...this.#enter, "setpriv", "--pdeathsig", "KILL", ...command];
  }

  /** Starts a script of this repository with Deno, with all permissions. */
  startDeno(
    script: string,
    args: readonly string[] = [],
    options: ChildOptions = {},
  ): Child {
    return this.start([...denoRun(script), ...args], options);
  }

  /**
   * Starts an endpoint (see `endpoint.ts`) and waits until it listens.
   *
   * @param addresses such as `tcp/10.244.0.2/8080`
   */
  async endpoint(
    addresses: readonly string[],
    name: string = this.name,
  ): Promise<Child> {
    const child = this.startDeno("test/support/endpoint.ts", [
      name,
      ...addresses,
    ]);
    try {
      await child.waitFor(/^ready$/m);
    } catch (error) {
      await child[Symbol.asyncDispose]();
      throw error;
    }
    return child;
  }

  /**
   * Connects from here, sends `text`, and returns the whole reply; or
   * `error: ConnectionRefused` and the like.
   *
   * @param options `timeoutMs`: less than 4 s where no answer is what is wanted
   */
  async dial(
    protocol: "tcp" | "udp",
    ip: string,
    options: { port: number; text?: string; timeoutMs?: number },
  ): Promise<string> {
    const [reply = ""] = await this.dialAll([{ protocol, ip, ...options }]);
    return reply;
  }

  /** The same for many at once, with one program. */
  async dialAll(dials: readonly Dial[]): Promise<string[]> {
    const script = denoRun("test/support/dial.ts");
    return JSON.parse(await this.run([...script, JSON.stringify(dials)]));
  }
}

/** The namespaces of one test, wired together. */
export class Network implements AsyncDisposable {
  readonly #holders: AsyncDisposableStack;
  readonly node: Namespace;
  readonly pods: readonly Namespace[];
  /** By the names that were asked for. */
  readonly hosts: ReadonlyMap<string, Namespace>;

  private constructor(
    holders: AsyncDisposableStack,
    namespaces: {
      node: Namespace;
      pods: readonly Namespace[];
      hosts: ReadonlyMap<string, Namespace>;
    },
  ) {
    this.#holders = holders;
    this.node = namespaces.node;
    this.pods = namespaces.pods;
    this.hosts = namespaces.hosts;
  }

  /** Makes it all; every address answers when this returns. */
  static async create(options: NetworkOptions = {}): Promise<Network> {
    await using holders = new AsyncDisposableStack();
    const inside = await userNamespace(holders);
    const hold = () => holdNamespace(holders, inside);
    const hostNames = options.hosts ?? [];
    const nodePid = await hold();
    const addresses = hostNames.length > 0 ? hostAddresses(0) : podAddresses(0);
    const node = new Namespace("node", nodePid, addresses);
    await ipBatch(node, [
      "link set lo up",
      ...bridge("cbr0", podAddresses(0)),
    ]);
    const pods: Namespace[] = [];
    for (let n = 1; n <= (options.pods ?? 2); n++) {
      const pid = await hold();
      const pod = new Namespace(`pod${n}`, pid, podAddresses(n));
      await plug(pod, { pid, port: `veth${n}`, into: node, bridge: "cbr0" });
      await ipBatch(pod, defaultRoutes(podAddresses(0)));
      pods.push(pod);
    }
    const hosts = new Map<string, Namespace>();
    if (hostNames.length > 0) {
      const lan = new Namespace("lan", await hold(), LAN_GATEWAY);
      await ipBatch(lan, ["link set lo up", ...bridge("lan0", LAN_GATEWAY)]);
      for (const [index, name] of ["node", ...hostNames].entries()) {
        const pid = index === 0 ? nodePid : await hold();
        const host = index === 0
          ? node
          : new Namespace(name, pid, hostAddresses(index));
        const port = `port${index}`;
        await plug(host, { pid, port, into: lan, bridge: "lan0" });
        await ipBatch(host, defaultRoutes(LAN_GATEWAY));
        if (index > 0) hosts.set(name, host);
      }
    }
    return new Network(holders.move(), { node, pods, hosts });
  }

  /** The host of this name, which must be one that was asked for. */
  host(name: string): Namespace {
    const host = this.hosts.get(name);
    if (host === undefined) throw new RangeError(`No host is named "${name}"`);
    return host;
  }

  /** Ends every namespace. Programs started in them are the caller's to end. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holders.disposeAsync();
  }
}

interface Addresses {
  readonly ipv4: string;
  readonly ipv6: string;
}

const LAN_GATEWAY: Addresses = { ipv4: "192.0.2.1", ipv6: "fd00:2::1" };

/** 0 is the node's own end, on the bridge. */
function podAddresses(n: number): Addresses {
  return { ipv4: `10.244.0.${n + 1}`, ipv6: `fd00:244::${n + 1}` };
}

/** 0 is the node. */
function hostAddresses(n: number): Addresses {
  return { ipv4: `192.0.2.${n + 11}`, ipv6: `fd00:2::${n + 11}` };
}

/** nodad: an address is of no use while it is checked for duplicates. */
function addressLines({ ipv4, ipv6 }: Addresses, device: string): string[] {
  return [
    `addr add ${ipv4}/24 dev ${device}`,
    `addr add ${ipv6}/64 dev ${device} nodad`,
  ];
}

function bridge(name: string, addresses: Addresses): string[] {
  return [
    `link add ${name} type bridge`,
    ...addressLines(addresses, name),
    `link set ${name} up`,
  ];
}

function defaultRoutes(via: Addresses): string[] {
  return [
    `route add default via ${via.ipv4}`,
    `-6 route add default via ${via.ipv6}`,
  ];
}

/** Gives a namespace an `eth0` whose other end is a port of a bridge. */
async function plug(
  namespace: Namespace,
  to: { pid: number; port: string; into: Namespace; bridge: string },
): Promise<void> {
  await ipBatch(to.into, [
    `link add ${to.port} type veth peer name eth0 netns ${to.pid}`,
    `link set ${to.port} master ${to.bridge} up`,
  ]);
  await ipBatch(namespace, [
    "link set lo up",
    ...addressLines(namespace, "eth0"),
    "link set eth0 up",
  ]);
}

async function ipBatch(
  namespace: Namespace,
  lines: readonly string[],
): Promise<void> {
  // A batch has one family, so lines of the other go apart.
  const isV6 = (line: string) => line.startsWith("-6 ");
  const v4 = lines.filter((line) => !isV6(line));
  const v6 = lines.filter(isV6).map((line) => line.slice(3));
  for (const [flags, batch] of [[[], v4], [["-6"], v6]] as const) {
    if (batch.length === 0) continue;
    const stdin = batch.join("\n") + "\n";
    await namespace.run(["ip", ...flags, "-batch", "-"], { stdin });
  }
}

/** How to step into the namespaces that a process holds. */
function enter(holderPid: number): [string, ...string[]] {
  // --wd: with another mount namespace the working directory would be `/`.
  const what = [`--target=${holderPid}`, "--net", "--mount", "--wd=."];
  return isRoot()
    ? ["nsenter", ...what]
    : ["nsenter", "--user", "--preserve-credentials", ...what];
}

/** Without root, all namespaces belong to one user namespace of ours. */
async function userNamespace(
  holders: AsyncDisposableStack,
): Promise<readonly string[]> {
  if (isRoot()) return [];
  const pid = await startHolder(holders, [
    "unshare",
    "--user",
    "--map-root-user",
  ]);
  return ["nsenter", `--target=${pid}`, "--user", "--preserve-credentials"];
}

/** A new network namespace; the process that holds it, as its number. */
function holdNamespace(
  holders: AsyncDisposableStack,
  inside: readonly string[],
): Promise<number> {
  return startHolder(holders, [
    ...[...inside, "unshare", "--net", "--mount"],
    // A /run of its own: network namespaces get their names there.
    ...["sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh"],
  ]);
}

async function startHolder(
  holders: AsyncDisposableStack,
  prefix: readonly string[],
): Promise<number> {
  const [program = "", ...args] = [
    ...prefix,
    "sh",
    "-c",
    "echo held; exec cat",
  ];
  const holder = holders.use(new Child([program, ...args]));
  await holder.waitFor("held");
  return holder.pid;
}

function denoRun(script: string): [string, ...string[]] {
  const path = new URL(`../../${script}`, import.meta.url).pathname;
  return [Deno.execPath(), "run", "-A", "--quiet", path];
}

function isRoot(): boolean {
  return Deno.uid() === 0;
}

let missing: { reason: string | undefined } | undefined;

/** This machine can make network namespaces with bridges and veth pairs. */
export const netns: Need = () => {
  missing ??= { reason: findMissing() };
  return missing.reason;
};

function findMissing(): string | undefined {
  for (const name of ["ip", "unshare", "nsenter", "setpriv"]) {
    if (findProgram(name) === undefined) return `no ${name} on the PATH`;
  }
  const user = isRoot() ? [] : ["--user", "--map-root-user"];
  const script = "ip link add bridge0 type bridge && " +
    "ip link add veth0 type veth peer name veth1";
  const { success, stderr } = new Deno.Command("unshare", {
    args: [...user, "--net", "sh", "-c", script],
  }).outputSync();
  if (success) return undefined;
  const why = new TextDecoder().decode(stderr).trim().split("\n")[0];
  return `no network namespaces: ${why}`;
}
