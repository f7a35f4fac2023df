import assert from "node:assert/strict";
import fc from "fast-check";
import { proxyHeader } from "../../../proxy/engine/proxy_protocol.ts";
import { parseProxyHeader } from "../../support/proxy_protocol.ts";

const decoder = new TextDecoder();

const IPV4 = {
  source: { ip: "192.168.0.1", port: 56_324 },
  destination: { ip: "192.168.0.11", port: 443 },
};
const IPV6 = {
  source: { ip: "2001:db8::1", port: 1 },
  destination: { ip: "fd00:10:96::a", port: 65_535 },
};

Deno.test("proxyHeader() v1 is the line of the specification", () => {
  assert.equal(
    decoder.decode(proxyHeader("v1", IPV4)),
    "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
  );
  assert.equal(
    decoder.decode(proxyHeader("v1", IPV6)),
    "PROXY TCP6 2001:db8::1 fd00:10:96::a 1 65535\r\n",
  );
});

Deno.test("proxyHeader() v2 is the specification's structure, byte for byte", () => {
  const hex = (bytes: Uint8Array) =>
    [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  assert.equal(
    hex(proxyHeader("v2", IPV4)),
    "0d0a0d0a000d0a515549540a" + // signature
      "21" + "11" + "000c" + // version and command, TCP over IPv4, length
      "c0a80001" + "c0a8000b" + "dc04" + "01bb",
  );
  assert.equal(
    hex(proxyHeader("v2", IPV6)),
    "0d0a0d0a000d0a515549540a" + "21" + "21" + "0024" +
      "20010db8000000000000000000000001" +
      "fd00001000960000000000000000000a" + "0001" + "ffff",
  );
});

Deno.test("proxyHeader() writes an IPv4 address as IPv6 beside an IPv6 one", () => {
  const mixed = { source: IPV4.source, destination: IPV6.destination };
  assert.equal(
    decoder.decode(proxyHeader("v1", mixed)),
    "PROXY TCP6 ::ffff:c0a8:1 fd00:10:96::a 56324 65535\r\n",
  );
  assert.deepEqual(parseProxyHeader(proxyHeader("v2", mixed)), {
    ...mixed,
    length: 52,
  });
});

Deno.test("proxyHeader() is read back by a strict parser, whatever follows", () => {
  const port = fc.integer({ min: 0, max: 65_535 });
  const ipv4 = fc.ipV4();
  const ipv6 = fc.ipV6().map((ip) => new URL(`http://[${ip}]`).hostname)
    .map((ip) => ip.slice(1, -1)).filter((ip) => !ip.startsWith("::"));
  const pair = fc.oneof(fc.tuple(ipv4, ipv4), fc.tuple(ipv6, ipv6));
  fc.assert(fc.property(
    pair,
    port,
    port,
    fc.constantFrom("v1" as const, "v2" as const),
    fc.uint8Array({ maxLength: 20 }),
    ([from, to], fromPort, toPort, version, payload) => {
      const connection = {
        source: { ip: from, port: fromPort },
        destination: { ip: to, port: toPort },
      };
      const header = proxyHeader(version, connection);
      assert.deepEqual(
        parseProxyHeader(new Uint8Array([...header, ...payload])),
        { ...connection, length: header.length },
      );
    },
  ));
});
