/**
 * Steering by NAT: every Service address has a proxy port, and a rule leads its
 * packets there. The listeners are bound to an address on `lo` that nothing
 * else has, so the rules are the only way in.
 *
 * Addresses and listeners go in; a `RulesWriter` for each IP family brings what
 * comes out into the kernel.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type IpFamily, ipFamily } from "../ip.ts";
import { addressKey } from "../listen_addresses.ts";
import {
  type BindAddress,
  type ListenerChanges,
  type ServiceAddress,
  type Steering,
  SteeringError,
  type SteeringFailure,
  type SteeringResult,
} from "../steering.ts";
import { type CommandRunner, isProgramMissing } from "./command.ts";
import { IpsetWriter } from "./ipset_writer.ts";
import { NftWriter } from "./nft_writer.ts";
import { DEFAULT_PROXY_PORTS, type PortRange } from "./proxy_ports.ts";
import { RedirectSide } from "./redirect_side.ts";
import { isRedirectTarget, removeTargets } from "./redirect_target.ts";
import type { RulesWriter } from "./rules_writer.ts";
import { WantedRedirections } from "./wanted_redirections.ts";

const logger = getLogger("rules");

export interface RedirectOptions {
  readonly runner: CommandRunner;
  /** `Deno.build.os`. */
  readonly os: string;
  /** Default: `DEFAULT_PROXY_PORTS`. */
  readonly ports?: PortRange;
  /**
   * All TCP addresses of an IP family have one proxy port: for an engine that
   * can ask the kernel where a connection was meant to go. Default: no.
   */
  readonly sharesTcp?: boolean;
  /** In the order in which they are tried. Default: iptables, nft. */
  readonly writers?: (family: IpFamily) => readonly RulesWriter[];
}

const FAMILIES: readonly IpFamily[] = ["IPv4", "IPv6"];

export class RedirectSteering implements Steering {
  readonly name = "redirect";
  readonly #options: RedirectOptions;
  readonly #wanted: WantedRedirections;
  readonly #sides = new Map<IpFamily, RedirectSide>();
  /** Why a family does not work. */
  readonly #broken = new Map<IpFamily, SteeringError>();
  /** Of those that are not used: they may have rules of an earlier run. */
  #unused: RulesWriter[] = [];
  #isFirstPass = true;
  #isTargetLost = false;

  constructor(options: RedirectOptions) {
    const { ports = DEFAULT_PROXY_PORTS, sharesTcp = false } = options;
    this.#options = options;
    this.#wanted = new WantedRedirections({ ports, sharesTcp });
  }

  get description(): string {
    const sides = [...this.#sides.values()].map((side) => side.description);
    return `rules of ${sides.join(" and ")}`;
  }

  /** As `Steering.start`. One IP family that works is enough. */
  async start(signal: AbortSignal): Promise<void> {
    const { os } = this.#options;
    if (os !== "linux") {
      throw cannotSteer(`rules need Linux, and this is ${os}`);
    }
    for (const family of FAMILIES) await this.#startSide(family, signal);
    const [error] = this.#broken.values();
    if (error === undefined) return;
    if (this.#sides.size === 0) throw error;
    logger.warn("Cannot redirect both IP families; going on with one", {
      reason: error.message,
    });
  }

  /**
   * Whether rules of an earlier run are there: then packets are redirected,
   * whatever strategy is used now. Needs no `start`.
   */
  async isInstalled(signal: AbortSignal): Promise<boolean> {
    for (const writer of FAMILIES.flatMap((family) => this.#writers(family))) {
      if (await writer.isInstalled(signal)) return true;
    }
    return false;
  }

  /** Takes the first writer that works; one with rules of ours before others. */
  async #startSide(family: IpFamily, signal: AbortSignal): Promise<void> {
    const used: RulesWriter[] = [];
    const unused: RulesWriter[] = [];
    for (const writer of this.#writers(family)) {
      (await writer.isInstalled(signal) ? used : unused).push(writer);
    }
    const writers = [...used, ...unused];
    const reasons: string[] = [];
    for (const writer of writers) {
      const side = new RedirectSide(writer, this.#options.runner);
      try {
        this.#wanted.adoptPorts(await side.start(signal));
        this.#sides.set(family, side);
        this.#broken.delete(family);
        this.#unused.push(...used.filter((each) => each !== writer));
        return;
      } catch (error) {
        if (!(error instanceof SteeringError)) throw error;
        if (!isProgramMissing(error.cause)) reasons.push(error.message);
      }
    }
    const why = reasons.join("; ") || "no iptables and no nft on the PATH";
    this.#broken.set(family, cannotSteer(why));
  }

  #writers(family: IpFamily): readonly RulesWriter[] {
    const { writers, runner, sharesTcp } = this.#options;
    const wanted = this.#wanted;
    const shared = {
      port: () => wanted.sharedPort(family),
      closedPort: wanted.closedPort,
    };
    return writers?.(family) ?? [
      new IpsetWriter({ family, runner, ...sharesTcp ? { shared } : {} }),
      new NftWriter({
        family,
        runner,
        ...sharesTcp ? { closedPort: wanted.closedPort } : {},
      }),
    ];
  }

  /** Gives each its port. Rules are written once the listeners are open. */
  prepare(added: readonly ServiceAddress[]): Promise<SteeringResult> {
    for (const address of added) this.want(address);
    const broken = added.filter(({ ip }) => !this.#sides.has(ipFamily(ip)));
    return Promise.resolve({ written: 0, failures: this.#failuresOf(broken) });
  }

  /** As `prepare`, for one address: there is nothing to wait for. */
  want(address: ServiceAddress): void {
    this.#wanted.add(address);
  }

  bindAddress(address: ServiceAddress): BindAddress | undefined {
    return this.#listenAddress(address, this.#wanted.portOf(address));
  }

  /** Another proxy port, if somebody holds the one it had. */
  fallbackAddress(
    address: ServiceAddress,
    error: unknown,
  ): BindAddress | undefined {
    if (error instanceof Deno.errors.AddrNotAvailable) {
      this.#isTargetLost = true;
    }
    return error instanceof Deno.errors.AddrInUse
      ? this.#listenAddress(address, this.#wanted.movePort(address))
      : undefined;
  }

  #listenAddress(
    address: ServiceAddress,
    port: number | undefined,
  ): BindAddress | undefined {
    const side = this.#sides.get(ipFamily(address.ip));
    if (side === undefined || port === undefined) return undefined;
    const bind = { ip: side.listenIp, port };
    return this.#wanted.isShared(address) ? { ...bind, isShared: true } : bind;
  }

  async sync(
    { opened, closed, released }: ListenerChanges,
    signal: AbortSignal,
  ): Promise<SteeringResult> {
    for (const address of released) this.#wanted.release(address);
    for (const address of closed) this.#wanted.setListening(address, false);
    for (const { address } of opened) this.#wanted.setListening(address, true);
    if (this.#isFirstPass) this.#wanted.markChanged(this.#installed());
    if (this.#isTargetLost) await this.#restoreTargets(signal);
    const keys = this.#wanted.changed;
    const written = await this.#write(keys, signal);
    this.#isFirstPass = false;
    await this.#cleanUnused(signal);
    const named = keys.map((key) => this.#wanted.get(key))
      .filter((address) => address !== undefined);
    return { written, failures: this.#failuresOf(named) };
  }

  async #write(keys: readonly string[], signal: AbortSignal): Promise<number> {
    let written = 0;
    for (const [family, side] of this.#sides) {
      const own = keys.filter((key) => familyOf(key) === family);
      const wanted = (key: string) => this.#wanted.redirection(key);
      written += await side.write(own, wanted, signal);
    }
    // Only now: what a call named that rejects is still to do.
    this.#wanted.done(keys);
    return written;
  }

  /** Only once our own rules are there, so that there is no gap. */
  async #cleanUnused(signal: AbortSignal): Promise<void> {
    for (const writer of this.#unused.splice(0)) {
      try {
        await writer.cleanup(signal);
      } catch (error) {
        if (!(error instanceof SteeringError)) throw error;
        logger.warn("Rules of an earlier run stay beside ours", {
          reason: error.message,
        });
      }
    }
  }

  *#installed(): Iterable<string> {
    for (const side of this.#sides.values()) yield* side.installed;
  }

  async #restoreTargets(signal: AbortSignal): Promise<number> {
    this.#isTargetLost = false;
    let written = 0;
    for (const side of this.#sides.values()) {
      written += await side.restoreTarget(signal);
    }
    return written;
  }

  isOurs(ip: string): boolean {
    return isRedirectTarget(ip);
  }

  async repair(signal: AbortSignal): Promise<SteeringResult> {
    let written = await this.#restoreTargets(signal);
    for (const side of this.#sides.values()) await side.look(signal);
    for (const family of FAMILIES) {
      if (this.#sides.has(family) || !this.#wanted.has(family)) continue;
      await this.#startSide(family, signal);
    }
    // Before the first pass nothing is wanted, and all of it may be yet.
    if (!this.#isFirstPass) {
      this.#wanted.markChanged(this.#installed());
      written += await this.#write(this.#wanted.changed, signal);
    }
    return { written, failures: this.#failuresOf(this.#wanted.addresses) };
  }

  #failuresOf(addresses: Iterable<ServiceAddress>): SteeringFailure[] {
    return [...addresses].flatMap((address) => {
      const family = ipFamily(address.ip);
      const error = this.#broken.get(family) ??
        this.#sides.get(family)?.failure(addressKey(address));
      return error === undefined ? [] : [{ address, error }];
    });
  }

  async cleanup(signal: AbortSignal): Promise<void> {
    const { runner, os } = this.#options;
    if (os !== "linux") return;
    for (const writer of FAMILIES.flatMap((family) => this.#writers(family))) {
      await writer.cleanup(signal);
    }
    // Last: what is still led there until then is refused, not routed out.
    await removeTargets({ runner, signal });
  }
}

/** Of an address key: `10.96.0.7:80/TCP`, `[fd00::7]:80/TCP`. */
function familyOf(key: string): IpFamily {
  return key.startsWith("[") ? "IPv6" : "IPv4";
}

function cannotSteer(why: string): SteeringError {
  return new SteeringError(`Cannot steer by redirect: ${why}`);
}
