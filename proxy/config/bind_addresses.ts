/**
 * `IP:port` texts of the configuration: their defaults, and what is wrong with
 * them. Texts in, texts out: nothing is opened here. Pure.
 *
 * @module
 */
import { isIPv4 } from "node:net";
import { canonicalIp, formatHostPort } from "../ip.ts";

export const HEALTHZ_PORT = 10_256;
export const METRICS_PORT = 10_249;

/**
 * Where health and metrics answer unless told otherwise: in IPv6 if
 * `bindAddress` is no IPv4 address (fact 8.45).
 */
export function defaultBindAddresses(
  bindAddress: string,
): { readonly healthz: string; readonly metrics: string } {
  const isV4 = isIPv4(canonicalIp(bindAddress) ?? "");
  return {
    healthz: formatHostPort(isV4 ? "0.0.0.0" : "::", HEALTHZ_PORT),
    metrics: formatHostPort(isV4 ? "127.0.0.1" : "::1", METRICS_PORT),
  };
}

/** Adds the port to an IP address alone; all else stays (fact 8.46). */
export function appendPortIfNeeded(text: string, port: number): string {
  const isIp = canonicalIp(text) !== undefined;
  return isIp ? formatHostPort(text, port) : text;
}

/**
 * What `--healthz-port` and `--metrics-port`, which upstream deprecated, make
 * of an address: a port in the address wins, and 0 turns it off (fact 8.88).
 */
export function addressFromDeprecatedFlag(text: string, port: number): string {
  return port === 0 ? "" : appendPortIfNeeded(text, port);
}

/** What is wrong with an `IP:port`, one phrase each (fact 8.62). */
export function hostPortProblems(text: string): string[] {
  const parts = /^(?:\[([^\[\]]*)\]|([^:\[\]]*)):([^:]*)$/.exec(text);
  if (parts === null) return ["must be IP:port"];
  const [, bracketed, plain = "", port = ""] = parts;
  const problems: string[] = [];
  if (canonicalIp(bracketed ?? plain) === undefined) {
    problems.push("must be a valid IP");
  }
  if (!/^\d+$/.test(port) || Number(port) < 1 || Number(port) > 65_535) {
    problems.push("must be a valid port");
  }
  return problems;
}
