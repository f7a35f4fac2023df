import assert from "node:assert/strict";
import fc from "fast-check";
import {
  type ApiServer,
  createApiServer,
  StatusError,
} from "../../watch/apiserver/mod.ts";
import {
  call,
  type Json,
  serviceManifest,
  watch,
} from "../watch/apiserver/support.ts";

const SERVICES = "/api/v1/services";
const NAMES = ["a", "b", "c", "d"];

type Step =
  | { do: "create"; name: string; spec: Json; hidden: boolean }
  | { do: "hide"; name: string; hidden: boolean }
  | { do: "delete"; name: string };

const name = fc.constantFrom(...NAMES);
const spec = fc.constantFrom<Json>(
  {},
  { clusterIP: "10.96.5.5" },
  { clusterIP: "None" },
  { type: "NodePort" },
  { type: "NodePort", ports: [{ port: 80, nodePort: 30001 }] },
  { type: "ExternalName", externalName: "example.com" },
  { ports: [] },
);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.record({
    do: fc.constant("create" as const),
    name,
    spec,
    hidden: fc.boolean(),
  }),
  fc.record({ do: fc.constant("hide" as const), name, hidden: fc.boolean() }),
  fc.record({ do: fc.constant("delete" as const), name }),
);

/** @returns was it refused? Then nothing may have changed. */
function run(server: ApiServer, step: Step): void {
  const before = server.resourceVersion;
  const named = { namespace: "default", name: step.name };
  const labels = { hidden: "hidden" in step && step.hidden ? "yes" : null };
  try {
    if (step.do === "delete") server.delete("services", named);
    else if (step.do === "hide") {
      server.patch("services", named, { metadata: { labels } });
    } else {
      const object = serviceManifest(step.name, step.spec);
      if (step.hidden) Object.assign(object.metadata, { labels });
      server.create("services", object);
    }
  } catch (error) {
    assert.ok(error instanceof StatusError, String(error));
    assert.equal(server.resourceVersion, before);
  }
}

/** No address and no port is given out twice. */
function assertDisjoint(services: readonly Json[]): void {
  const taken = services.flatMap(({ spec }) => [
    ...(spec.clusterIPs ?? []).filter((ip: string) => ip !== "None"),
    ...(spec.ports ?? []).flatMap(({ nodePort }: Json) => nodePort ?? []),
  ]);
  assert.equal(new Set(taken).size, taken.length, taken.join(" "));
}

Deno.test("whoever follows a list by its watch has what the next list says", async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.array(step, { maxLength: 30 }),
      fc.nat(30),
      fc.boolean(),
      async (steps, start, selects) => {
        await using server = createApiServer();
        const selector = selects ? "&labelSelector=!hidden" : "";
        for (const step of steps.slice(0, start)) run(server, step);
        const list = async () =>
          (await call(server, `${SERVICES}?limit=0${selector}`)).body;
        const first = await list();
        const known = new Map<string, Json>(
          first.items.map((item: Json) => [item.metadata.name, item]),
        );
        for (const step of steps.slice(start)) run(server, step);
        const version = first.metadata.resourceVersion;
        await using reader = await watch(
          server,
          SERVICES,
          `resourceVersion=${version}${selector}`,
        );
        server.faults.endStreams();
        for (let event; (event = await reader.next()) !== undefined;) {
          const { kind: _kind, apiVersion: _version, ...item } = event.object;
          const { name } = item.metadata;
          assert.equal(known.has(name), event.type !== "ADDED");
          if (event.type === "DELETED") known.delete(name);
          else known.set(name, item);
        }
        const last = (await list()).items;
        assert.deepEqual(
          [...known.values()].sort((a, b) =>
            a.metadata.name < b.metadata.name ? -1 : 1
          ),
          last,
        );
        assertDisjoint(last);
        const exact = await call(
          server,
          `${SERVICES}?resourceVersion=${version}&resourceVersionMatch=Exact${selector}`,
        );
        assert.deepEqual(exact.body, first, "history can be read");
      },
    ),
    { numRuns: 100 },
  );
});
