import assert from "node:assert/strict";
import fc from "fast-check";
import { IpsetState, ownSetsIn } from "../../../proxy/rules/ipset_state.ts";
import {
  type Redirection,
  redirectionKey,
} from "../../../proxy/rules/redirection.ts";
import { FakeSets } from "../../support/fake_sets.ts";

const [OPEN_PORT, CLOSED_PORT] = [20_000, 29_999];
const NO_UDP: ReadonlyMap<string, Redirection> = new Map();

function redirection(more: Partial<Redirection> = {}): Redirection {
  return {
    ip: "10.96.0.1",
    port: 80,
    protocol: "TCP",
    isNodePort: false,
    isClusterIp: true,
    name: "default/web:http",
    proxyPort: OPEN_PORT,
    ...more,
  };
}

const WEB = redirection();

function newState(): IpsetState {
  return new IpsetState({ family: "IPv4", closedPort: CLOSED_PORT });
}

function texts(state: IpsetState, add: Redirection[], remove: Redirection[]) {
  const { before, after } = state.plan({ add, remove });
  const text = (of: { text: string }) => of.text;
  return { before: before.map(text), after: after.map(text) };
}

Deno.test("IpsetState makes the sets with the first address, and elements from then on", () => {
  const state = newState();
  assert.deepEqual(texts(state, [], []), { before: [], after: [] });
  const { before } = texts(state, [WEB], []);
  assert.equal(before.filter((text) => text.startsWith("create ")).length, 5);
  assert.deepEqual(before.slice(5), [
    'add KUBE-PORTALS-OPEN 10.96.0.1,tcp:80 comment "default/web:http"',
    "add KUBE-PORTALS-IPS 10.96.0.1",
  ]);
  state.note({ add: [WEB], remove: [] });
  const more = redirection({ port: 81, proxyPort: CLOSED_PORT });
  assert.deepEqual(texts(state, [more], []), {
    before: [
      'add KUBE-PORTALS-CLOSED 10.96.0.1,tcp:81 comment "default/web:http"',
    ],
    after: [],
  });
});

Deno.test("IpsetState adds to one set before it removes from the other", () => {
  const state = newState();
  state.note({ add: [WEB], remove: [] });
  const closed = { ...WEB, proxyPort: CLOSED_PORT };
  assert.deepEqual(texts(state, [closed], [WEB]), {
    before: [
      'add KUBE-PORTALS-CLOSED 10.96.0.1,tcp:80 comment "default/web:http"',
    ],
    after: ["del KUBE-PORTALS-OPEN 10.96.0.1,tcp:80"],
  });
});

Deno.test("IpsetState knows UDP addresses, which have rules, as ports that are not refused", () => {
  const dns = redirection({ port: 53, protocol: "UDP", proxyPort: 20_007 });
  const nodePort = redirection({
    ip: "192.0.2.7",
    protocol: "UDP",
    isNodePort: true,
    isClusterIp: false,
  });
  assert.deepEqual(texts(newState(), [dns, nodePort], []).before.slice(5), [
    'add KUBE-PORTALS-OPEN 10.96.0.1,udp:53 comment "default/web:http"',
    "add KUBE-PORTALS-IPS 10.96.0.1",
  ]);
});

Deno.test("IpsetState: a name cannot break out of its comment", () => {
  const name = 'a"\ndestroy X\n';
  const { before } = texts(newState(), [redirection({ name })], []);
  assert.equal(
    before[5],
    'add KUBE-PORTALS-OPEN 10.96.0.1,tcp:80 comment "a??destroy X?"',
  );
});

Deno.test("IpsetState makes a set anew that somebody made otherwise", () => {
  const state = newState();
  state.take(
    "create KUBE-PORTALS-IPS hash:net family inet hashsize 1024 maxelem 65536\nadd KUBE-PORTALS-IPS 10.0.0.0/8\n",
    { sharedPort: OPEN_PORT, udp: NO_UDP },
  );
  const { before, after } = texts(state, [WEB], []);
  assert.equal(before[0], "destroy KUBE-PORTALS-IPS");
  assert.deepEqual(after, []);
});

Deno.test("IpsetState takes elements for nothing where no rule asks their set", () => {
  const kernel = new FakeSets();
  const state = newState();
  kernel.run(texts(state, [WEB], []).before);
  state.take(kernel.save(), { sharedPort: undefined, udp: NO_UDP });
  assert.deepEqual(state.installed, new Map());
  state.take(kernel.save(), { sharedPort: OPEN_PORT, udp: NO_UDP });
  assert.deepEqual([...state.installed.values()], [WEB]);
});

Deno.test("ownSetsIn() knows our sets, and those of a family", () => {
  const list = [
    "KUBE-PORTALS-OPEN",
    "KUBE-PORTALS-IPS6",
    "KUBE-CLUSTER-IP",
    "MY-KUBE-PORTALS-OPEN",
    "KUBE-PORTALS-PROBE",
    "",
  ];
  const ours = (family?: "IPv4" | "IPv6") => ownSetsIn(list.join("\n"), family);
  assert.deepEqual(ours(), [list[0], list[1], list[4]]);
  assert.deepEqual(ours("IPv4"), [list[0], list[4]]);
  assert.deepEqual(ours("IPv6"), [list[1]]);
});

Deno.test("IpsetState: after any changes and accidents the sets hold what was asked for", () => {
  const arbitrary = fc.record({
    ip: fc.constantFrom("10.96.0.1", "10.96.0.2"),
    port: fc.constantFrom(80, 81),
    protocol: fc.constant("TCP" as const),
    isNodePort: fc.boolean(),
    isClusterIp: fc.constant(true),
    name: fc.constantFrom("a/b:c", "d/e:f"),
    proxyPort: fc.constantFrom(OPEN_PORT, CLOSED_PORT),
  }).map((each) => ({ ...each }));
  const step = fc.record({
    add: fc.uniqueArray(arbitrary, { selector: redirectionKey, maxLength: 4 }),
    remove: fc.array(fc.nat(7), { maxLength: 3 }),
    accident: fc.constantFrom("none", "none", "read", "destroyed"),
  });
  fc.assert(fc.property(fc.array(step, { maxLength: 12 }), (steps) => {
    const kernel = new FakeSets();
    const state = newState();
    const read = () =>
      state.take(kernel.save(), { sharedPort: OPEN_PORT, udp: NO_UDP });
    let wanted = new Map<string, Redirection>();
    for (const { add, remove, accident } of steps) {
      if (accident === "destroyed") kernel.clear();
      if (accident !== "none") {
        read();
        wanted = new Map(state.installed);
      }
      const old = remove.flatMap((n) => [...wanted.values()][n] ?? []);
      for (const each of old) wanted.delete(redirectionKey(each));
      for (const each of add) wanted.set(redirectionKey(each), each);
      const change = { add, remove: old };
      const { before, after } = texts(state, add, old);
      kernel.run([...before, ...after]);
      state.note(change);
      assert.deepEqual(texts(state, [], []), { before: [], after: [] });
      read();
      assert.deepEqual(
        [...state.installed].sort(),
        [...wanted].sort(),
      );
      assert.deepEqual(texts(state, [], []), { before: [], after: [] });
    }
  }));
});
