/**
 * One Service address led to one proxy port: the plain data between the
 * `redirect` strategy, which decides, and whoever writes rules. Pure; knows no
 * program's syntax.
 *
 * @module
 */
import { formatHostPort, type IpFamily } from "../ip.ts";

/** "Packets for this address and port go to that proxy port." */
export interface Redirection {
  /** Canonical, without brackets. */
  readonly ip: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
  /** On an address of the node, which has chains of its own. */
  readonly isNodePort: boolean;
  /**
   * On a cluster IP, whose other ports are to be refused. Missing in what was
   * read: there is nothing in the kernel that says so.
   */
  readonly isClusterIp?: boolean;
  /** The ServicePort as people read it: `default/web:http`. */
  readonly name: string;
  readonly proxyPort: number;
}

/** What tells two redirections apart: `10.96.0.7:80/TCP`. */
export function redirectionKey(
  of: Pick<Redirection, "ip" | "port" | "protocol">,
): string {
  return `${formatHostPort(of.ip, of.port)}/${of.protocol}`;
}

/** Whether both would be written as the same rule. */
export function isSameRedirection(a: Redirection, b: Redirection): boolean {
  return redirectionKey(a) === redirectionKey(b) &&
    a.isNodePort === b.isNodePort && a.name === b.name &&
    a.proxyPort === b.proxyPort &&
    (a.isClusterIp === undefined || b.isClusterIp === undefined ||
      a.isClusterIp === b.isClusterIp);
}

/**
 * Where redirected packets are sent: an address on `lo` that nothing else has,
 * so that a listener bound to it answers only what was redirected.
 *
 * IPv4: link-local, which no router passes on, and away from those that others
 * took (169.254.169.254 and .170.2 of clouds, .20.10 and .25.10 of DNS caches,
 * .1.1 of CNI plugins). IPv6: a unique local address that spells
 * "kube-portal" in ASCII; a link-local one would need a zone wherever it is
 * written.
 */
export const REDIRECT_TARGETS: Readonly<Record<IpFamily, string>> = {
  IPv4: "169.254.107.1",
  IPv6: "fd6b:7562:652d:706f:7274:616c:0:1",
};
