import assert from "node:assert/strict";
import { BlockList } from "node:net";
import fc from "fast-check";
import {
  canonicalCidr,
  canonicalIp,
  cidrContains,
  cidrContainsCidr,
  cidrsOverlap,
  formatHostPort,
  ipFamily,
  isLoopback,
  singleAddressCidr,
} from "../../proxy/ip.ts";

Deno.test("canonicalIp() reads what Kubernetes reads and writes one form", () => {
  const table: readonly [string, string | undefined][] = [
    ["10.96.0.1", "10.96.0.1"],
    ["172.30.0.041", "172.30.0.41"],
    ["1.2.3.004", "1.2.3.4"],
    ["0001.02.003.0", "1.2.3.0"],
    ["2001:DB8:0::1", "2001:db8::1"],
    ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["::", "::"],
    ["::1", "::1"],
    ["::ffff:1.2.3.4", "1.2.3.4"],
    ["::ffff:01.2.003.4", "1.2.3.4"],
    ["::ffff:102:304", "1.2.3.4"],
    ["::ffff:0:0", "0.0.0.0"],
    ["::ffff:0:1.2.3.4", "::ffff:0:102:304"],
    ["::ffff", "::ffff"],
    ["64:ff9b::1.2.3.4", "64:ff9b::102:304"],
    ["", undefined],
    ["None", undefined],
    ["1.2.3", undefined],
    ["1.2.3.256", undefined],
    ["1.2.3.4.5", undefined],
    ["1.2.3.-4", undefined],
    ["0x7f.0.0.1", undefined],
    [" 1.2.3.4", undefined],
    ["1.2.3.4 ", undefined],
    ["1.2.3.4\n", undefined],
    ["[::1]", undefined],
    ["fe80::1%eth0", undefined],
    ["1:2:3", undefined],
    ["::g", undefined],
    ["10.0.0.0/8", undefined],
    ["example.org", undefined],
  ];
  for (const [text, want] of table) {
    assert.equal(canonicalIp(text), want, JSON.stringify(text));
  }
});

Deno.test("canonicalCidr() drops leading zeros and host bits", () => {
  const table: readonly [string, string | undefined][] = [
    ["203.0.113.000/025", "203.0.113.0/25"],
    ["203.0.113.009/025", "203.0.113.0/25"],
    ["10.96.0.0/12", "10.96.0.0/12"],
    ["10.111.255.255/12", "10.96.0.0/12"],
    ["1.2.3.4/32", "1.2.3.4/32"],
    ["1.2.3.4/0", "0.0.0.0/0"],
    ["FD00:0:0::FFFF/112", "fd00::/112"],
    ["fd00::ffff/0", "::/0"],
    ["fd00::1/128", "fd00::1/128"],
    ["1.2.3.4/33", undefined],
    ["fd00::/129", undefined],
    ["::ffff:1.2.3.0/120", undefined],
    ["1.2.3.4", undefined],
    ["1.2.3.4/", undefined],
    ["1.2.3.4/-1", undefined],
    ["1.2.3.4/8/8", undefined],
    ["/8", undefined],
    ["", undefined],
    ["fe80::1%eth0/64", undefined],
  ];
  for (const [text, want] of table) {
    assert.equal(canonicalCidr(text), want, JSON.stringify(text));
  }
});

Deno.test("isLoopback(), ipFamily(), formatHostPort() and singleAddressCidr() know both families", () => {
  assert.ok(isLoopback("127.0.0.1") && isLoopback("127.96.0.1"));
  assert.ok(isLoopback("::1"));
  assert.ok(!isLoopback("10.0.0.1") && !isLoopback("::2"));
  assert.equal(ipFamily("10.0.0.0/8"), "IPv4");
  assert.equal(ipFamily("fd00::/8"), "IPv6");
  assert.equal(formatHostPort("10.96.0.1", 443), "10.96.0.1:443");
  assert.equal(formatHostPort("fd00::1", 443), "[fd00::1]:443");
  assert.equal(singleAddressCidr("10.96.0.1"), "10.96.0.1/32");
  assert.equal(singleAddressCidr("fd00::1"), "fd00::1/128");
});

Deno.test("cidrContains() and cidrsOverlap() never cross families", () => {
  assert.ok(!cidrContains("0.0.0.0/0", "::1"));
  assert.ok(!cidrContains("::/0", "10.0.0.1"));
  assert.ok(!cidrsOverlap("::/0", "0.0.0.0/0"));
});

const v4 = fc.ipV4().map((ip) => canonicalIp(ip) ?? ip);
const v6 = fc.uint8Array({ minLength: 16, maxLength: 16 }).map((bytes) => {
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) {
    groups.push((((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0)).toString(16));
  }
  return canonicalIp(groups.join(":")) ?? "";
}).filter((ip) => ip.includes(":"));

/** Two addresses of one family that often share their first bits, and a prefix. */
const pairs = fc.oneof(
  fc.record({ a: v4, b: v4, prefix: fc.integer({ min: 0, max: 32 }) }),
  fc.record({ a: v6, b: v6, prefix: fc.integer({ min: 0, max: 128 }) }),
  v4.chain((a) =>
    fc.record({
      a: fc.constant(a),
      b: v4.map((b) =>
        [...a.split(".").slice(0, 2), ...b.split(".").slice(2)].join(".")
      ),
      prefix: fc.integer({ min: 0, max: 32 }),
    })
  ),
);

function blockListContains(cidr: string, ip: string): boolean {
  const [base = "", prefix = ""] = cidr.split("/");
  const type = base.includes(":") ? "ipv6" : "ipv4";
  const list = new BlockList();
  list.addSubnet(base, Number(prefix), type);
  return list.check(ip, type);
}

Deno.test("cidrContains() agrees with node:net's BlockList", () => {
  fc.assert(fc.property(pairs, ({ a, b, prefix }) => {
    const cidr = canonicalCidr(`${a}/${prefix}`) ?? "";
    assert.ok(cidrContains(cidr, a));
    assert.equal(cidrContains(cidr, b), blockListContains(cidr, b));
  }));
});

Deno.test("cidrsOverlap() is symmetric, and true exactly if one CIDR holds the other", () => {
  fc.assert(
    fc.property(pairs, fc.integer({ min: 0, max: 32 }), (pair, other) => {
      const a = canonicalCidr(`${pair.a}/${pair.prefix}`) ?? "";
      const b = canonicalCidr(`${pair.b}/${other}`) ?? "";
      const overlap = cidrsOverlap(a, b);
      assert.equal(overlap, cidrsOverlap(b, a));
      assert.equal(overlap, cidrContainsCidr(a, b) || cidrContainsCidr(b, a));
    }),
  );
});

Deno.test("canonicalIp() and canonicalCidr() leave their own output alone", () => {
  fc.assert(fc.property(pairs, ({ a, prefix }) => {
    assert.equal(canonicalIp(a), a);
    const cidr = canonicalCidr(`${a}/${prefix}`);
    assert.equal(canonicalCidr(cidr ?? ""), cidr);
  }));
});

Deno.test("canonicalIp() reads leading zeros as decimal, however many", () => {
  fc.assert(
    fc.property(
      v4,
      fc.array(fc.nat(4), { minLength: 4, maxLength: 4 }),
      (ip, zeros) => {
        const sloppy = ip.split(".").map((part, i) =>
          "0".repeat(zeros[i] ?? 0) + part
        ).join(".");
        assert.equal(canonicalIp(sloppy), ip);
      },
    ),
  );
});

Deno.test("canonicalIp() never throws", () => {
  fc.assert(
    fc.property(
      fc.oneof(fc.string(), fc.stringMatching(/^[0-9a-f:.%/]*$/)),
      (text) => {
        canonicalIp(text);
        canonicalCidr(text);
      },
    ),
  );
});
