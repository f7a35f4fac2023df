/**
 * The first list of a large cluster, over a slow link: the program answers for
 * its health meanwhile, and its memory stays in proportion.
 */
import assert from "node:assert/strict";
import { ENDPOINT_SLICES, SERVICES } from "../../watch/resource.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import { httpStatus } from "../support/loopback.ts";
import { rawService } from "../support/raw_objects.ts";
import { type RawReply, RawServer, untilGone } from "../support/raw_server.ts";

const OBJECTS = 50_000;
const PAGE = 500;
/** What the link takes at once, and how long it then needs. */
const PIECE_BYTES = 32 * 1024;
const PIECE_MS = 2;

/** Some 15 KiB for each Service, what the collector has not seen yet included. */
const RESIDENT_MAX_MIB = 1_000;
const SLOWEST_ANSWER_MS = 2_000;

/** Some 900 bytes, as a Service with a few labels and managed fields is. */
function item(index: number): unknown {
  const { kind: _, apiVersion: __, ...service } = rawService(
    `service-${index}`,
    index + 1,
  );
  const ip = `10.${97 + (index >> 16)}.${index >> 8 & 255}.${index & 255}`;
  return {
    ...service,
    metadata: {
      ...service.metadata,
      labels: { app: `app-${index}`, tier: "backend" },
      managedFields: [{ manager: "kubectl", fieldsV1: "x".repeat(400) }],
    },
    spec: { ...service.spec as object, clusterIP: ip, clusterIPs: [ip] },
  };
}

async function slowly(reply: RawReply, value: unknown): Promise<void> {
  const body = new TextEncoder().encode(JSON.stringify(value));
  await reply.head(200, {
    "content-type": "application/json",
    "content-length": String(body.length),
    connection: "close",
  });
  for (let at = 0; at < body.length && reply.isOpen; at += PIECE_BYTES) {
    await reply.write(body.subarray(at, at + PIECE_BYTES));
    await new Promise((resolve) => setTimeout(resolve, PIECE_MS));
  }
  reply.close();
}

/** In MiB, the most it ever was. */
function mostResident(pid: number): number {
  const status = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? NaN) / 1_024;
}

Deno.test({
  name:
    "a list of 50,000 Services over a slow link holds up no health check, and memory stays bounded",
  ignore: Deno.build.os !== "linux",
  async fn(t) {
    const pages = new Set<string>();
    await using server = new RawServer(async (request, reply) => {
      if (request.isWatch) {
        await reply.begin();
        await untilGone(request);
        return reply.close();
      }
      const metadata = { resourceVersion: String(OBJECTS + 1) };
      if (request.path === ENDPOINT_SLICES.path) {
        return reply.json({ metadata, items: [] });
      }
      if (request.path !== SERVICES.path) return reply.refuse(404);
      const from = Number(request.query.get("continue") ?? 0);
      const limit = Number(request.query.get("limit"));
      const to = from + limit;
      // A question for one object is about versions: see watch/reflector.ts.
      if (limit === PAGE) pages.add(request.query.get("continue") ?? "");
      const length = Math.min(to, OBJECTS) - from;
      const items = Array.from({ length }, (_, index) => item(from + index));
      const next = to < OBJECTS ? { continue: String(to) } : {};
      return await slowly(reply, { metadata: { ...metadata, ...next }, items });
    });
    const healthPort = freePort();
    await using proxy = startKubePortal([
      "--steer=none",
      `--master=${server.url}`,
      "--hostname-override=node-1",
      `--healthz-bind-address=127.0.0.1:${healthPort}`,
      "--metrics-bind-address=",
    ]);
    const ready = proxy.waitFor(" Ready ", 120_000);
    const state = { isReady: false };
    ready.then(() => state.isReady = true, () => state.isReady = true);
    let slowest = 0;
    let asked = 0;
    while (!state.isReady) {
      const began = performance.now();
      const status = await httpStatus(`http://127.0.0.1:${healthPort}/livez`);
      if (status === 200) {
        asked++;
        slowest = Math.max(slowest, performance.now() - began);
      } // Else it does not listen yet.
      else assert.equal(asked, 0, `livez answered ${status}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
    await ready;
    assert.equal(pages.size, OBJECTS / PAGE);
    assert.ok(asked > 20, `asked ${asked} times`);
    assert.ok(slowest < SLOWEST_ANSWER_MS, `${slowest} ms`);
    const resident = mostResident(proxy.pid);
    assert.ok(resident < RESIDENT_MAX_MIB, `${resident} MiB`);
    // For people who read the output.
    const figures = `${asked} answers, the slowest after ${
      slowest.toFixed(0)
    } ms; ${resident.toFixed(0)} MiB`;
    await t.step(figures, () => {});
  },
});
