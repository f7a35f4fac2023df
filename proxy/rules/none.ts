/**
 * No steering: a listener binds the Service address where that is local
 * already, and a port on the loopback address elsewhere. Changes nothing on the
 * machine and needs no privilege; it is how the demo runs.
 *
 * @module
 */
import { IPVS_DEVICE } from "./modes/ipvs/program.ts";
import type { ListenAddress } from "../engine/engine.ts";
import { canonicalIp, ipFamily, isLoopback } from "../ip.ts";
import type { ServiceAddress, Steering, SteeringResult } from "../steering.ts";

export interface NoSteeringOptions {
  /** `Deno.build.os`. */
  readonly os: string;
  /** The addresses of the machine's interfaces. */
  readonly interfaceAddresses: () => readonly string[];
}

export class NoSteering implements Steering {
  readonly name = "none";
  readonly description =
    "Service addresses that are local are served there, others on a port of the loopback address";
  readonly #options: NoSteeringOptions;
  #interfaceAddresses: ReadonlySet<string> = new Set();

  constructor(options: NoSteeringOptions) {
    this.#options = options;
  }

  start(): Promise<void> {
    this.#observe();
    return Promise.resolve();
  }

  prepare(): Promise<SteeringResult> {
    return Promise.resolve(NOTHING_TO_DO);
  }

  /**
   * The address itself where it is local; for a cluster IP elsewhere a port of
   * the loopback address. Other addresses have clients elsewhere, whom a port
   * of this machine's loopback address would not help.
   */
  bindAddress({ kind, ip, port }: ServiceAddress): ListenAddress | undefined {
    if (kind === "NodePort" || this.#isLocal(ip)) return { ip, port };
    return kind === "ClusterIP" ? loopbackPort(ip) : undefined;
  }

  /**
   * A port of the loopback address, where the cluster IP itself will not do for
   * as long as this process runs: the port is privileged, or the address is not
   * local after all.
   *
   * Not where the port is merely in use: its user may go, and a listener on
   * another port would never come back from there.
   */
  fallbackAddress(
    address: ServiceAddress,
    error: unknown,
  ): ListenAddress | undefined {
    if (address.kind !== "ClusterIP" || !this.#isLocal(address.ip)) {
      return undefined;
    }
    const lasting = error instanceof Deno.errors.PermissionDenied ||
      error instanceof Deno.errors.AddrNotAvailable;
    return lasting ? loopbackPort(address.ip) : undefined;
  }

  sync(): Promise<SteeringResult> {
    return Promise.resolve(NOTHING_TO_DO);
  }

  isOurs(): boolean {
    return false;
  }

  repair(): Promise<SteeringResult> {
    this.#observe();
    return Promise.resolve(NOTHING_TO_DO);
  }

  cleanup(): Promise<void> {
    return Promise.resolve();
  }

  #observe(): void {
    const addresses = this.#options.interfaceAddresses();
    this.#interfaceAddresses = new Set(
      addresses.map((text) => canonicalIp(text) ?? text),
    );
  }

  #isLocal(ip: string): boolean {
    return isLocalByItself(ip, this.#options.os) ||
      this.#interfaceAddresses.has(ip);
  }
}

const NOTHING_TO_DO: SteeringResult = { written: 0, failures: [] };

/**
 * Whether an address is bindable on every machine with this system: all of
 * 127.0.0.0/8 is on Linux, elsewhere only the one address that `lo0` has.
 */
export function isLocalByItself(ip: string, os: string): boolean {
  if (!isLoopback(ip)) return false;
  return os === "linux" || ip === "127.0.0.1" || ip === "::1";
}

/**
 * The addresses that Deno can see without running a program, as the system
 * spells them, without those of Services that ipvs mode has on an interface; none without the permission (`--allow-sys=networkInterfaces`).
 */
export function interfaceAddresses(): readonly string[] {
  try {
    return Deno.networkInterfaces()
      .filter(({ name }) => name !== IPVS_DEVICE)
      .map((each) => each.address);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) return [];
    throw error;
  }
}

function loopbackPort(ip: string): ListenAddress {
  return { ip: ipFamily(ip) === "IPv4" ? "127.0.0.1" : "::1", port: 0 };
}
