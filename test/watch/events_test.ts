import assert from "node:assert/strict";
import {
  type ApiClient,
  ApiError,
  type ClusterEvent,
  EventRecorder,
} from "../../watch/mod.ts";
import { type ApiServer, createApiServer } from "../../watch/apiserver/mod.ts";
import { decodeStatus } from "../../watch/decode.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { collectLog } from "../support/log_lines.ts";

const WEB: ClusterEvent = {
  subject: {
    apiVersion: "v1",
    kind: "Service",
    namespace: "default",
    name: "web",
    uid: "123",
  },
  type: "Warning",
  reason: "PortInUse",
  action: "Listen",
  note: "node n1 does not serve 10.0.0.1:80/TCP",
};

/** An event of another Service. */
function about(name: string, note = WEB.note): ClusterEvent {
  return { ...WEB, subject: { ...WEB.subject, name, uid: name }, note };
}

interface Sent {
  readonly method: string;
  readonly path: string;
}

/** A recorder at work, its API server, and what it sent. */
class World implements AsyncDisposable {
  readonly clock = new FakeClock();
  readonly server: ApiServer = createApiServer({ now: () => this.clock.now() });
  readonly sent: Sent[] = [];
  /** Answers instead of the server. */
  refusal: Response | undefined;
  readonly recorder: EventRecorder;
  readonly #stop = new AbortController();
  readonly #running: Promise<void>;

  constructor() {
    this.recorder = new EventRecorder({
      client: this.#client(),
      clock: this.clock,
      component: "kube-portal",
      nodeName: "n1",
    });
    this.#running = this.recorder.run(this.#stop.signal);
  }

  #client(): ApiClient {
    return {
      server: "http://127.0.0.1",
      request: async (path, options = {}) => {
        const method = options.method ?? "GET";
        this.sent.push({ method, path });
        const type = method === "PATCH"
          ? "application/merge-patch+json"
          : "application/json";
        const response = this.refusal?.clone() ??
          await this.server.fetch(
            new Request(`http://127.0.0.1${path}`, {
              method,
              headers: { "Content-Type": type },
              body: JSON.stringify(options.body),
            }),
          );
        if (response.ok) return response;
        const status = decodeStatus(await response.json(), response.status);
        throw new ApiError(status, `Cannot ${method} ${path}`);
      },
      [Symbol.dispose]() {},
    };
  }

  /** Events at the server: subject, count, message. */
  events(): unknown[] {
    return this.server.list("events").map(({ involvedObject, ...event }) => [
      (involvedObject as { name: string }).name,
      event.count,
      event.message,
    ]);
  }

  /** The methods of what was sent. */
  get methods(): string {
    return this.sent.map(({ method }) => method).join(" ");
  }

  refuse(code: number, reason: string): void {
    const status = { kind: "Status", status: "Failure", code, reason };
    this.refusal = Response.json(status, { status: code });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#running;
    await this.server[Symbol.asyncDispose]();
  }
}

Deno.test("EventRecorder writes an Event that names its object, its node and its component", async () => {
  await using world = new World();
  world.recorder.record(WEB);
  await world.clock.advance(0);
  const [event] = world.server.list("events");
  assert.ok(event !== undefined);
  assert.match(event.metadata.name, /^web\.[0-9a-f]+$/);
  assert.equal(event.metadata.namespace, "default");
  assert.deepEqual(event.involvedObject, {
    apiVersion: "v1",
    kind: "Service",
    namespace: "default",
    name: "web",
    uid: "123",
  });
  assert.deepEqual(event.source, { component: "kube-portal", host: "n1" });
  const { type, reason, action, message, count } = event;
  assert.deepEqual({ type, reason, action, message, count }, {
    type: "Warning",
    reason: "PortInUse",
    action: "Listen",
    message: WEB.note,
    count: 1,
  });
  assert.equal(event.firstTimestamp, "2026-01-01T00:00:00Z");
});

Deno.test("EventRecorder counts what it has said before, in the same Event", async () => {
  await using world = new World();
  world.recorder.record(WEB);
  await world.clock.advance(1_000);
  for (let n = 0; n < 3; n++) world.recorder.record(WEB);
  world.recorder.record(about("web", "another"));
  await world.clock.advance(1_000);
  assert.deepEqual(
    world.events().sort(),
    [
      ["web", 1, "another"],
      ["web", 4, WEB.note],
    ].sort(),
  );
  assert.equal(world.methods, "POST PATCH POST");
  const [event] = world.server.list("events")
    .filter(({ count }) => count === 4);
  assert.equal(event?.firstTimestamp, "2026-01-01T00:00:00Z");
  assert.equal(event?.lastTimestamp, "2026-01-01T00:00:01Z");
});

Deno.test("EventRecorder writes anew what the API server has forgotten", async () => {
  await using world = new World();
  world.recorder.record(WEB);
  await world.clock.advance(1_000);
  const [event] = world.server.list("events");
  world.server.delete("events", {
    namespace: "default",
    name: event?.metadata.name ?? "",
  });
  world.recorder.record(WEB);
  await world.clock.advance(1_000);
  assert.equal(world.methods, "POST PATCH POST");
  assert.deepEqual(world.events(), [["web", 1, WEB.note]]);
});

Deno.test("EventRecorder gives an object 25 Events and one more in five minutes, others not minding", async () => {
  await using world = new World();
  const record = (count: number) => {
    for (let n = 0; n < count; n++) {
      world.recorder.record(about("noisy", `${world.clock.now()} ${n}`));
    }
  };
  record(100);
  world.recorder.record(about("quiet"));
  await world.clock.advance(10_000);
  assert.equal(world.sent.length, 26);
  await world.clock.advance(300_000);
  record(5);
  await world.clock.advance(10_000);
  assert.equal(world.sent.length, 27);
});

Deno.test("EventRecorder sends five a second, of a thousand at most", async () => {
  await using world = new World();
  for (let n = 0; n < 2_000; n++) world.recorder.record(about(`s${n}`));
  await world.clock.advance(999);
  assert.equal(world.sent.length, 5);
  await world.clock.advance(300_000);
  assert.equal(world.sent.length, 1_000);
});

Deno.test("EventRecorder drops what is refused, and says so once", async () => {
  await using log = await collectLog("info");
  await using world = new World();
  world.refuse(403, "Forbidden");
  for (const name of ["a", "b", "c"]) world.recorder.record(about(name));
  await world.clock.advance(60_000);
  assert.equal(world.sent.length, 3);
  world.refusal = undefined;
  world.recorder.record(about("d"));
  await world.clock.advance(1_000);
  assert.deepEqual(world.events(), [["d", 1, WEB.note]]);
  assert.equal(log.lines.length, 2, log.lines.join(""));
  assert.match(log.lines[0] ?? "", /WARN .*Cannot write Events.*403 Forbidden/);
  assert.match(log.lines[1] ?? "", /INFO .*Events are written again/);
});

Deno.test("EventRecorder tries again every 10 s while the API server is busy, and loses no count", async () => {
  await using log = await collectLog("info");
  await using world = new World();
  world.refuse(503, "ServiceUnavailable");
  world.recorder.record(WEB);
  await world.clock.advance(9_999);
  assert.equal(world.sent.length, 1);
  world.recorder.record(WEB);
  await world.clock.advance(10_000);
  assert.equal(world.sent.length, 2);
  world.refusal = undefined;
  await world.clock.advance(10_000);
  assert.deepEqual(world.events(), [["web", 2, WEB.note]]);
  assert.equal(log.lines.length, 2);
});
