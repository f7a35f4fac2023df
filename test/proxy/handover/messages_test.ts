import assert from "node:assert/strict";
import { parseHello, parseMessage } from "../../../proxy/handover/messages.ts";

const HELLO = { type: "hello", protocol: 1, version: "0.1.0" };
const CHANNEL = "kube-portal-0b1f7a52-7d1c-4f0e-9c1a-7f3f6a2c9d10";

Deno.test("parseHello() takes what a process says that takes over", () => {
  assert.deepEqual(parseHello(JSON.stringify(HELLO)), {
    protocol: 1,
    version: "0.1.0",
    channel: undefined,
  });
  const hello = parseHello(JSON.stringify({ ...HELLO, channel: CHANNEL }));
  assert.equal(hello?.channel, CHANNEL);
});

Deno.test("parseHello() believes nothing that is of another shape", () => {
  const table: readonly unknown[] = [
    undefined,
    null,
    [],
    "hello",
    {},
    { ...HELLO, type: "now" },
    { ...HELLO, protocol: "1" },
    { ...HELLO, version: 1 },
    { ...HELLO, version: "1\u001b[2J" },
    { ...HELLO, version: "1".repeat(100) },
    // A name of somebody else's socket, and one that is none.
    { ...HELLO, channel: "dbus" },
    { ...HELLO, channel: `${CHANNEL}\u0000` },
    { ...HELLO, channel: 1 },
  ];
  for (const value of table) {
    assert.equal(parseHello(JSON.stringify(value) ?? ""), undefined);
  }
});

Deno.test("parseMessage() tells messages from other lines", () => {
  for (const line of ["", "{", "1", "[]", "{}", '{"type":1}']) {
    assert.equal(parseMessage(line), undefined, line);
  }
  assert.deepEqual(parseMessage('{"type":"all"}'), { type: "all" });
});
