/**
 * Reads the header of the PROXY protocol as strictly as the specification
 * allows: what an endpoint that expects one would accept. Written against the
 * text, not against our writer.
 *
 * @module
 */
import assert from "node:assert/strict";
import { isIPv4, isIPv6 } from "node:net";
import type { ListenAddress } from "../../proxy/engine/engine.ts";
import { canonicalIp } from "../../proxy/ip.ts";

export interface ProxyHeader {
  readonly source: ListenAddress;
  readonly destination: ListenAddress;
  /** Bytes of the header; the client's own follow. */
  readonly length: number;
}

/** Section 2.1: the longest line, with its end. */
const LONGEST_LINE_BYTES = 107;

/** Undefined: there is too little of it. Fails for what is no header. */
export function parseProxyHeader(bytes: Uint8Array): ProxyHeader | undefined {
  if (bytes.length === 0) return undefined;
  return bytes[0] === 0x0d ? parseBinary(bytes) : parseLine(bytes);
}

function parseLine(bytes: Uint8Array): ProxyHeader | undefined {
  const text = String.fromCharCode(...bytes.subarray(0, LONGEST_LINE_BYTES));
  const end = text.indexOf("\r\n");
  if (end === -1) {
    assert.ok(text.length < LONGEST_LINE_BYTES, "line too long");
    return undefined;
  }
  const words = text.slice(0, end).split(" ");
  assert.equal(words.length, 6, text);
  const [name, family, from, to, fromPort, toPort] = words as [
    string,
    string,
    string,
    string,
    string,
    string,
  ];
  assert.equal(name, "PROXY");
  assert.match(family, /^TCP[46]$/);
  const isAddress = family === "TCP4" ? isIPv4 : isIPv6;
  assert.ok(isAddress(from) && isAddress(to), text);
  for (const port of [fromPort, toPort]) {
    assert.match(port, /^(0|[1-9]\d{0,4})$/);
    assert.ok(Number(port) <= 65_535);
  }
  return {
    source: { ip: canonicalIp(from)!, port: Number(fromPort) },
    destination: { ip: canonicalIp(to)!, port: Number(toPort) },
    length: end + 2,
  };
}

function parseBinary(bytes: Uint8Array): ProxyHeader | undefined {
  if (bytes.length < 16) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  assert.equal(
    String.fromCharCode(...bytes.subarray(0, 12)),
    "\r\n\r\n\0\r\nQUIT\n",
  );
  assert.equal(view.getUint8(12), 0x21, "version 2, command PROXY");
  const family = view.getUint8(13);
  assert.ok(family === 0x11 || family === 0x21, `family ${family}`);
  const size = family === 0x11 ? 4 : 16;
  const length = view.getUint16(14);
  assert.equal(length, 2 * size + 4, "no extensions");
  if (bytes.length < 16 + length) return undefined;
  const address = (index: number): ListenAddress => ({
    ip: readIp(bytes.subarray(16 + index * size, 16 + (index + 1) * size)),
    port: view.getUint16(16 + 2 * size + 2 * index),
  });
  return { source: address(0), destination: address(1), length: 16 + length };
}

function readIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const groups = Array.from(
    { length: 8 },
    (_, index) => view.getUint16(2 * index).toString(16),
  );
  return canonicalIp(groups.join(":"))!;
}
