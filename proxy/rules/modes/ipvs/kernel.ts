/**
 * The kernel's part in ipvs mode, through `ipvsadm`, `ipset` and `ip`: reading
 * what is there, writing a difference, and whether there is an IPVS at all.
 * Starts programs; what to write is decided elsewhere.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "../../command.ts";
import { destroySets, listSets, restoreSets } from "../../ipset_program.ts";
import type { Difference, Draining } from "./difference.ts";
import {
  type Installed,
  ownServers,
  parseAddresses,
  parseConnections,
  parseServers,
  parseSets,
} from "./installed.ts";
import { IPVS_DEVICE } from "./program.ts";
import { kernelSetName, SET_NAMES } from "./sets.ts";
import { addressLine, createSetLine } from "./text.ts";

interface Options {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** An address for documentation, which nobody serves (fact 10.41). */
const PROBE: Readonly<Record<IpFamily, string>> = {
  IPv4: "198.51.100.0:20000",
  IPv6: "[2001:db8::]:20000",
};

/** What is missing, as one sentence; `undefined`: nothing. */
export async function ipvsObstacle(
  family: IpFamily,
  options: Options,
): Promise<string | undefined> {
  const name = kernelSetName("KUBE-CLUSTER-IP", family);
  const set = createSetLine({ name, type: "hash:ip,port" }, { family });
  const steps: readonly [string, () => Promise<unknown>][] = [
    ["ip_vs", () => probeServer(family, options)],
    ["ip_set", () => restoreSets([set], options)],
    ["dummy", () => addDevice(options)],
  ];
  for (const [module, step] of steps) {
    try {
      await step();
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      return obstacle(module, error);
    }
  }
  return undefined;
}

function obstacle(module: string, error: CommandError): string {
  if (isProgramMissing(error) || error.exitCode === undefined) {
    return error.message;
  }
  const { stderr } = error;
  if (/Operation not permitted|Permission denied|must be root/i.test(stderr)) {
    return "needs CAP_NET_ADMIN (run as root)";
  }
  if (/Can't initialize ipvs|Unknown device type|not supp/i.test(stderr)) {
    return `the kernel has no ${module}: "modprobe ${module}", or another --proxy-mode`;
  }
  return error.message;
}

/** Makes a virtual server and removes it; one of an earlier try is no matter. */
async function probeServer(family: IpFamily, options: Options): Promise<void> {
  const server = ["-t", PROBE[family]];
  await ipvsadm(["-Ln"], options);
  await ipvsadm(["-D", ...server], options).catch(ignoreRefusal);
  await ipvsadm(["-A", ...server, "-s", "rr"], options);
  await ipvsadm(["-D", ...server], options);
}

function ignoreRefusal(error: unknown): void {
  if (!(error instanceof CommandError)) throw error;
}

async function addDevice(options: Options): Promise<void> {
  if (await readDevice(options) !== undefined) return;
  await ip(["link", "add", IPVS_DEVICE, "type", "dummy"], options);
}

/** What `ip` says of our interface; `undefined`: it is not there. */
async function readDevice(options: Options): Promise<string | undefined> {
  try {
    const command = ["-json", "address", "show", "dev", IPVS_DEVICE] as const;
    return await ip([...command], options);
  } catch (error) {
    if (error instanceof CommandError && error.exitCode === 1) return undefined;
    throw error;
  }
}

/** @throws {CommandError} */
export async function readInstalled(
  family: IpFamily,
  options: Options,
): Promise<Installed> {
  const names = new Set<string>(
    SET_NAMES.map((name) => kernelSetName(name, family)),
  );
  const [servers, sets, device] = await Promise.all([
    ipvsadm(["-Sn"], options),
    options.runner.run(["ipset", "save"], options),
    readDevice(options),
  ]);
  return {
    servers: parseServers(servers, family),
    sets: parseSets(sets, (name) => names.has(name)),
    addresses: parseAddresses(device ?? "", family),
  };
}

/**
 * Writes a difference. Rules stand between: they ask the new entries, and let go
 * of the old ones.
 *
 * @throws {CommandError}
 */
export async function writeDifference(
  difference: Difference,
  { rules, ...options }: Options & { rules: () => Promise<void> },
): Promise<void> {
  await restoreSets(difference.newEntries, options);
  await rules();
  await restoreServers(difference.servers, options);
  if (difference.newAddresses.length > 0) await addDevice(options);
  await batch(difference.newAddresses, options);
  await batch(difference.oldAddresses, options);
  await restoreServers(difference.oldServers, options);
  await restoreSets(difference.oldEntries, options);
}

/**
 * Removes real servers whose connections have ended.
 *
 * @returns which; the others still have some
 */
export async function removeDrained(
  draining: readonly Draining[],
  options: Options,
): Promise<Draining[]> {
  if (draining.length === 0) return [];
  const connections = parseConnections(await ipvsadm(["-Ln"], options));
  const ended = draining.filter(({ server, realServer }) =>
    (connections.get(`${server} ${realServer}`) ?? 0) === 0
  );
  await restoreServers(
    ended.map(({ server, realServer }) => `-d ${server} -r ${realServer}`),
    options,
  );
  return ended;
}

/** What `uname -r` says: `6.1.0-56-amd64`. */
export async function kernelRelease(
  { runner, signal }: Options,
): Promise<string> {
  return (await runner.run(["uname", "-r"], { signal })).trim();
}

/** Seconds; 0: as it is. @throws {CommandError} */
export async function setTimeouts(
  seconds: readonly [tcp: number, tcpFin: number, udp: number],
  options: Options,
): Promise<void> {
  await ipvsadm(["--set", ...seconds.map(String)], options);
}

/**
 * Removes what is there of a family, rules excepted, and the interface with the
 * last of its addresses. Virtual servers of others stay.
 *
 * @throws {CommandError}
 */
export async function removeInstalled(
  family: IpFamily,
  options: Options,
): Promise<void> {
  const device = await readDevice(options);
  if (!await isWithout(options)) {
    const keys = ownServers(await readInstalled(family, options), family);
    await restoreServers(keys.map((key) => `-D ${key}`), options);
  }
  await batch(
    [...parseAddresses(device ?? "", family)]
      .map((each) => addressLine("delete", each)),
    options,
  );
  const other = family === "IPv4" ? "IPv6" : "IPv4";
  if (
    device !== undefined && parseAddresses(device, other).size === 0
  ) {
    await ip(["link", "delete", IPVS_DEVICE], options);
  }
  const names = new Set((await listSets(options)).split("\n"));
  await destroySets(
    SET_NAMES.map((name) => kernelSetName(name, family))
      .filter((name) => names.has(name)),
    options,
  );
}

/** No IPVS here, or nobody to ask: nothing of it can be there. */
async function isWithout(options: Options): Promise<boolean> {
  try {
    await ipvsadm(["-Ln"], options);
    return false;
  } catch (error) {
    if (error instanceof CommandError) return true;
    throw error;
  }
}

/** @throws {CommandError} */
async function restoreServers(
  lines: readonly string[],
  { runner, signal }: Options,
): Promise<void> {
  if (lines.length === 0) return;
  const stdin = lines.map((line) => `${line}\n`).join("");
  await runner.run(["ipvsadm", "--restore"], { signal, stdin });
}

async function batch(
  lines: readonly string[],
  { runner, signal }: Options,
): Promise<void> {
  if (lines.length === 0) return;
  const stdin = lines.map((line) => `${line}\n`).join("");
  await runner.run(["ip", "-batch", "-"], { signal, stdin });
}

function ipvsadm(
  args: readonly string[],
  { runner, signal }: Options,
): Promise<string> {
  return runner.run(["ipvsadm", ...args], { signal });
}

function ip(
  args: readonly string[],
  { runner, signal }: Options,
): Promise<string> {
  return runner.run(["ip", ...args], { signal });
}
