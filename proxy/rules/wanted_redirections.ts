/**
 * The live map of what `redirect` wants: every Service address, its proxy port,
 * and which of them changed since the rules were written. Pure; the rules
 * themselves are kept in `redirect_side.ts`.
 *
 * @module
 */
import { type IpFamily, ipFamily } from "../ip.ts";
import { addressKey } from "../listen_addresses.ts";
import type { ServiceAddress } from "../steering.ts";
import { type PortRange, ProxyPorts } from "./proxy_ports.ts";
import type { Redirection } from "./redirection.ts";

export interface WantedRedirectionsOptions {
  readonly ports: PortRange;
  /** All TCP addresses of an IP family have one proxy port. Default: no. */
  readonly sharesTcp?: boolean;
}

export class WantedRedirections {
  readonly #ports: Readonly<Record<"TCP" | "UDP", ProxyPorts>>;
  readonly #sharesTcp: boolean;
  readonly #addresses = new Map<string, ServiceAddress>();
  readonly #listening = new Set<string>();
  /** Cluster IP → how many addresses are wanted there as such. */
  readonly #clusterIps = new Map<string, number>();
  readonly #changed = new Set<string>();

  constructor({ ports, sharesTcp = false }: WantedRedirectionsOptions) {
    this.#ports = { TCP: new ProxyPorts(ports), UDP: new ProxyPorts(ports) };
    this.#sharesTcp = sharesTcp;
  }

  /** Every address that is wanted. */
  get addresses(): Iterable<ServiceAddress> {
    return this.#addresses.values();
  }

  get(key: string): ServiceAddress | undefined {
    return this.#addresses.get(key);
  }

  has(family: IpFamily): boolean {
    for (const { ip } of this.#addresses.values()) {
      if (ipFamily(ip) === family) return true;
    }
    return false;
  }

  /** The ports that rules of an earlier run lead to, before any is taken. */
  adoptPorts(ports: ReadonlyMap<string, number>): void {
    const { TCP, UDP } = this.#ports;
    for (const [key, port] of ports) {
      if (key.endsWith("/UDP")) UDP.adopt(key, port);
      // Whoever had ports of their own: any of them will do.
      else TCP.adopt(this.#sharesTcp ? sharedKey(key) : key, port);
    }
  }

  add(address: ServiceAddress): void {
    const key = addressKey(address);
    this.#countClusterIp(this.#addresses.get(key), -1);
    this.#countClusterIp(address, 1);
    this.#addresses.set(key, address);
    this.#changed.add(key);
    this.portOf(address);
  }

  release(address: ServiceAddress): void {
    const key = addressKey(address);
    this.#countClusterIp(this.#addresses.get(key), -1);
    this.#addresses.delete(key);
    this.#listening.delete(key);
    this.#changed.add(key);
    if (this.isShared(address)) return;
    this.#ports[address.protocol].release(key);
  }

  #countClusterIp(address: ServiceAddress | undefined, by: 1 | -1): void {
    if (address?.kind !== "ClusterIP") return;
    const count = (this.#clusterIps.get(address.ip) ?? 0) + by;
    if (count > 0) this.#clusterIps.set(address.ip, count);
    else this.#clusterIps.delete(address.ip);
  }

  setListening(address: ServiceAddress, isListening: boolean): void {
    const key = addressKey(address);
    if (isListening) this.#listening.add(key);
    else this.#listening.delete(key);
    this.#changed.add(key);
  }

  isShared({ protocol }: ServiceAddress): boolean {
    return protocol === "TCP" && this.#sharesTcp;
  }

  /** Nobody ever listens there. */
  get closedPort(): number {
    return this.#ports.TCP.closed;
  }

  /** The one port of all TCP addresses; `undefined` if all are taken. */
  sharedPort(family: IpFamily): number | undefined {
    return this.#ports.TCP.take(family);
  }

  /** The proxy port of an address; `undefined` if all are taken. */
  portOf(address: ServiceAddress): number | undefined {
    return this.#ports[address.protocol].take(this.#portKey(address));
  }

  /** Another one, since somebody else holds the one it had. */
  movePort(address: ServiceAddress): number | undefined {
    const port = this.#ports[address.protocol].move(this.#portKey(address));
    if (this.isShared(address)) this.markChanged([]);
    else this.#changed.add(addressKey(address));
    return port;
  }

  #portKey(address: ServiceAddress): string {
    const key = addressKey(address);
    return this.isShared(address) ? sharedKey(key) : key;
  }

  /**
   * What the kernel should have for an address. Without a listener too: nobody
   * listens on its port then, so its clients are refused, and nothing has to be
   * written when its endpoints come and go.
   */
  redirection(key: string): Redirection | undefined {
    const address = this.#addresses.get(key);
    if (address === undefined) return undefined;
    const { ip, port, protocol, name, kind } = address;
    const { closed } = this.#ports[protocol];
    const mustRefuse = this.isShared(address) && !this.#listening.has(key);
    const proxyPort = mustRefuse ? closed : this.portOf(address) ?? closed;
    const isNodePort = kind === "NodePort";
    const isClusterIp = this.#clusterIps.has(ip);
    return { ip, port, protocol, isNodePort, isClusterIp, name, proxyPort };
  }

  /** Everything is to be compared again, this here and what is installed. */
  markChanged(installed: Iterable<string>): void {
    for (const key of this.#addresses.keys()) this.#changed.add(key);
    for (const key of installed) this.#changed.add(key);
  }

  /** Which addresses came, went or changed since they were `done`. */
  get changed(): string[] {
    return [...this.#changed];
  }

  done(keys: Iterable<string>): void {
    for (const key of keys) this.#changed.delete(key);
  }
}

/** By which the port that all TCP addresses of a family share is kept. */
function sharedKey(addressKey: string): string {
  return addressKey.startsWith("[") ? "IPv6" : "IPv4";
}
