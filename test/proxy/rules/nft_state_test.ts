import assert from "node:assert/strict";
import fc from "fast-check";
import type { NftForm } from "../../../proxy/rules/nft_rules.ts";
import { NftState } from "../../../proxy/rules/nft_state.ts";
import {
  REDIRECT_TARGETS,
  type Redirection,
  redirectionKey,
} from "../../../proxy/rules/redirection.ts";
import { FakeNftTable } from "../../support/fake_nft.ts";

const TARGET: NftForm = {
  family: "IPv4",
  target: REDIRECT_TARGETS.IPv4,
  guard: "raw",
};
const REDIRECT: NftForm = { family: "IPv4", guard: "raw" };
const SHARED: NftForm = { ...TARGET, closedPort: 29_999 };

function redirection(more: Partial<Redirection> = {}): Redirection {
  return {
    ip: "10.96.0.1",
    port: 80,
    protocol: "TCP",
    isNodePort: false,
    name: "default/web:http",
    proxyPort: 20_001,
    ...more,
  };
}

const WEB = redirection();
const DNS = redirection({ ip: "10.96.0.2", port: 53, protocol: "UDP" });

/** A state whose table holds these. */
function holding(form: NftForm, ...redirections: Redirection[]): NftState {
  const state = new NftState(form, "");
  state.note({ add: redirections, remove: [] }, new Map());
  return state;
}

function texts(
  state: NftState,
  add: Redirection[],
  remove: Redirection[] = [],
) {
  return state.plan({ add, remove }).map(({ text }) => text);
}

Deno.test("NftState writes the table with the first redirection, and elements from then on", () => {
  const state = new NftState(TARGET, "");
  assert.deepEqual(texts(state, []), []);
  const first = texts(state, [WEB]);
  assert.deepEqual(first.slice(0, 2), [
    "add table ip kube-portal",
    "delete table ip kube-portal",
  ]);
  assert.equal(
    first.at(-1),
    'add element ip kube-portal service-ips { 10.96.0.1 . tcp . 80 comment "default/web:http" : 20001 }',
  );
  state.note({ add: [WEB], remove: [] }, new Map());
  assert.deepEqual(texts(state, [WEB]), []);
  assert.deepEqual(texts(state, [DNS]), [
    'add element ip kube-portal service-ips { 10.96.0.2 . udp . 53 comment "default/web:http" : 20001 }',
  ]);
});

Deno.test("NftState replaces what changed, and only that", () => {
  const state = holding(TARGET, WEB, DNS);
  const moved = { ...WEB, proxyPort: 20_005 };
  const want = [
    "delete element ip kube-portal service-ips { 10.96.0.1 . tcp . 80 }",
    'add element ip kube-portal service-ips { 10.96.0.1 . tcp . 80 comment "default/web:http" : 20005 }',
  ];
  assert.deepEqual(texts(state, [moved]), want);
  assert.deepEqual(texts(state, [moved, DNS], [WEB]), want);
  const nodePort = { ...WEB, isNodePort: true };
  assert.deepEqual(texts(state, [nodePort], [WEB]), [
    "delete element ip kube-portal service-ips { 10.96.0.1 . tcp . 80 }",
    'add element ip kube-portal node-ports { 10.96.0.1 . tcp . 80 comment "default/web:http" : 20001 }',
  ]);
  assert.deepEqual(texts(state, [], [redirection({ port: 81 })]), []);
});

Deno.test("NftState closes a proxy port as long as something leads there", () => {
  const state = new NftState(REDIRECT, "");
  assert.ok(
    texts(state, [WEB, DNS]).includes(
      "add element ip kube-portal proxy-ports { tcp . 20001 }",
    ),
  );
  const more = redirection({ port: 81 });
  state.note({ add: [WEB, more], remove: [] }, new Map());
  const isPort = (text: string) => text.includes("proxy-ports");
  assert.deepEqual(texts(state, [], [WEB]).filter(isPort), []);
  assert.deepEqual(texts(state, [], [WEB, more]).filter(isPort), [
    "delete element ip kube-portal proxy-ports { tcp . 20001 }",
  ]);
  const moved = { ...more, proxyPort: 20_007 };
  assert.deepEqual(texts(state, [moved], [WEB]).filter(isPort), [
    "delete element ip kube-portal proxy-ports { tcp . 20001 }",
    "add element ip kube-portal proxy-ports { tcp . 20007 }",
  ]);
});

Deno.test("NftState refuses other ports of a cluster IP as long as it has one", () => {
  const web = { ...WEB, isClusterIp: true };
  const more = { ...web, port: 81 };
  const isIp = (text: string) => text.includes("cluster-ips");
  assert.deepEqual(texts(new NftState(TARGET, ""), [web]).filter(isIp), []);
  const state = holding(SHARED, web, more);
  assert.deepEqual(texts(state, [], [web]).filter(isIp), []);
  assert.deepEqual(texts(state, [], [web, more]).filter(isIp), [
    "delete element ip kube-portal cluster-ips { 10.96.0.1 }",
  ]);
  const external = { ...WEB, ip: "198.51.100.1", isClusterIp: false };
  assert.deepEqual(texts(state, [external]).filter(isIp), []);
});

Deno.test("NftState takes away a wrong table that nobody needs", () => {
  const state = new NftState(TARGET, "right");
  state.take({
    frame: "wrong",
    redirections: new Map([[redirectionKey(WEB), WEB]]),
    proxyPorts: new Set(),
    clusterIps: new Set(),
    hasStrangers: false,
  });
  assert.deepEqual(texts(state, [], [WEB]), [
    "add table ip kube-portal",
    "delete table ip kube-portal",
  ]);
  assert.ok(texts(state, []).length > 3);
  state.note({ add: [], remove: [WEB] }, new Map());
  assert.deepEqual(texts(state, []), []);
});

Deno.test("NftState: after any changes and accidents the table holds what was asked for", () => {
  const arbitrary = fc.record({
    ip: fc.constantFrom("10.96.0.1", "10.96.0.2"),
    port: fc.constantFrom(80, 81),
    protocol: fc.constantFrom("TCP" as const, "UDP" as const),
    isNodePort: fc.boolean(),
    name: fc.constantFrom("a/b:c", `x/${"y".repeat(200)}`),
    proxyPort: fc.constantFrom(20_001, 20_002, 20_003),
  }).map((each) => ({ ...each, isClusterIp: each.ip === "10.96.0.1" }));
  const step = fc.record({
    add: fc.uniqueArray(arbitrary, { selector: redirectionKey, maxLength: 4 }),
    remove: fc.array(fc.nat(7), { maxLength: 3 }),
    accident: fc.constantFrom("none", "none", "read", "deleted", "tampered"),
  });
  fc.assert(fc.property(
    fc.constantFrom(TARGET, REDIRECT, SHARED),
    fc.array(step, { maxLength: 12 }),
    (form, steps) => {
      const kernel = new FakeNftTable();
      const state = new NftState(form, "frame");
      let wanted = new Map<string, Redirection>();
      for (const { add, remove, accident } of steps) {
        if (accident === "deleted") kernel.run(["delete table ip kube-portal"]);
        if (accident === "tampered") kernel.tamper();
        if (accident !== "none") {
          state.take(kernel.read("frame"));
          wanted = new Map(state.installed);
        }
        const old = remove.flatMap((n) => [...wanted.values()][n] ?? []);
        for (const each of old) wanted.delete(redirectionKey(each));
        for (const each of add) wanted.set(redirectionKey(each), each);
        const change = { add, remove: old };
        kernel.run(state.plan(change).map(({ text }) => text));
        state.note(change, new Map());
        assert.deepEqual(
          kernel.elements,
          FakeNftTable.elementsOf(form, wanted),
        );
        assert.equal(kernel.isTampered, false);
        // What it believes is what there is.
        const before = state.plan({ add: [], remove: [] });
        state.take(kernel.read("frame"));
        assert.deepEqual(state.plan({ add: [], remove: [] }), before);
        assert.deepEqual(before, []);
      }
    },
  ));
});
