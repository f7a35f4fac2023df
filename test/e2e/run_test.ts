/**
 * The proxy's life as a process: API servers that come and go, files instead of
 * an API server, its health, and its end.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import {
  kubeNode,
  kubeService,
  kubeSlice,
  KubeWriter,
  manifest,
} from "../support/kube_objects.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import {
  connect,
  eventually,
  hear,
  type HttpEndpoints,
  httpEndpoints,
  httpStatus,
  loopbackRange,
  say,
  whoAnswers,
} from "../support/loopback.ts";
import { VERSION } from "../../proxy/commands/version.ts";
import { echoServer } from "../support/tcp.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";

const NODE = "node-1";
const PORT = 8080;

/** Addresses of one test, and servers on them. */
class World {
  readonly range = loopbackRange();
  readonly apiserverPort = freePort();
  readonly healthPort = freePort();
  readonly server = `http://127.0.0.1:${this.apiserverPort}`;
  readonly writer = new KubeWriter(this.server);
  readonly #stack: AsyncDisposableStack;

  constructor(stack: AsyncDisposableStack) {
    this.#stack = stack;
  }

  ip(n: number): string {
    return `${this.range}.1.${n}`;
  }

  endpoints(name: string, ...numbers: readonly number[]): HttpEndpoints {
    return this.#stack.use(
      httpEndpoints(name, numbers.map((n) => `${this.range}.200.${n}`)),
    );
  }

  /** Service `name` on `ip(n)`, and the slice of its endpoints. */
  web(name: string, n: number, endpoints: HttpEndpoints) {
    return {
      ip: this.ip(n),
      service: kubeService(name, this.ip(n), { http: PORT }),
      slice: kubeSlice(name, endpoints.addresses, { http: endpoints.port }),
    };
  }

  async apiserver(...args: readonly string[]): Promise<Child> {
    const child = this.#stack.use(startKubePortal([
      "apiserver",
      `--port=${this.apiserverPort}`,
      `--service-cidr=${this.range}.0.0/17`,
      ...args,
    ]));
    await child.waitFor("nothing is kept when it ends");
    return child;
  }

  proxy(...args: readonly string[]): Child {
    return this.#stack.use(startKubePortal([
      "--steer=none",
      `--hostname-override=${NODE}`,
      `--healthz-bind-address=127.0.0.1:${this.healthPort}`,
      "--metrics-bind-address=",
      ...args,
    ]));
  }

  status(path: string): Promise<number> {
    return httpStatus(`http://127.0.0.1:${this.healthPort}${path}`);
  }
}

/** Waits until the answers of an address are those of `who`. */
async function answeredBy(ip: string, who: string): Promise<void> {
  await eventually(
    `${who} answers on ${ip}`,
    () => whoAnswers(ip, PORT),
    (seen) => seen === who,
  );
}

/** Lines of the log at a level, without their times. */
function logLines(child: Child, level = "(?:INFO|WARN|ERROR)"): string[] {
  const pattern = new RegExp(`^\\S+Z (${level} .*)$`, "gm");
  return [...child.output.matchAll(pattern)].map(([, line = ""]) => line);
}

async function ended(child: Child): Promise<number> {
  const { code } = await child.status;
  await child.ended;
  return code;
}

Deno.test("run waits for an API server, outlives it, and follows the next one", async (t) => {
  await using stack = new AsyncDisposableStack();
  await using folder = await temporaryFolder();
  const world = new World(stack);
  const a = world.web("a", 1, world.endpoints("a", 1));
  const b = world.web("b", 2, world.endpoints("b", 2));
  const other = world.endpoints("other", 3);
  await folder.write("a.yaml", manifest(a.service, a.slice));
  const proxy = world.proxy(`--master=${world.server}`);

  await t.step("it says that there is none, and is alive", async () => {
    await proxy.waitFor("Cannot reach the API server");
    assert.equal(await world.status("/livez"), 200);
    assert.equal(await world.status("/healthz"), 503);
    assert.doesNotMatch(proxy.output, / Ready /);
  });

  let apiserver: Child;
  await t.step("it serves once there is one", async () => {
    apiserver = await world.apiserver(`--manifests=${folder.path}`);
    await answeredBy(a.ip, "a-1");
    await proxy.waitFor(" Ready ");
  });

  await t.step("Services are served before the Node is there", async () => {
    assert.equal(await world.status("/healthz"), 503);
    assert.equal(await world.status("/livez"), 200);
    await world.writer.create(kubeNode(NODE));
    await eventually(
      "healthy with its Node",
      () => world.status("/healthz"),
      (status) => status === 200,
    );
  });

  await t.step("killed, it goes on serving", async () => {
    apiserver.kill("SIGKILL");
    await ended(apiserver);
    await eventually(
      "it has noticed",
      () => logLines(proxy, "WARN").filter((it) => it.includes("reach")).length,
      (count) => count === 2,
    );
    assert.equal(await whoAnswers(a.ip, PORT), "a-1");
    assert.equal(await world.status("/healthz"), 200);
  });

  await t.step("back, it is followed again", async () => {
    await folder.write("b.yaml", manifest(b.service, b.slice));
    await world.apiserver(`--manifests=${folder.path}`);
    await answeredBy(b.ip, "b-1");
    assert.equal(await whoAnswers(a.ip, PORT), "a-1");
    await world.writer.replace(
      kubeSlice("a", other.addresses, { http: other.port }),
    );
    await answeredBy(a.ip, "other-1");
  });

  await t.step("each change of state was one line", () => {
    const lines = logLines(proxy).map((line) =>
      line.replace(/^(\w+) +\w+: /, "$1 ").replace(/( \w+=\S.*)?$/, "")
    );
    const away = "WARN Cannot reach the API server; what is known stays served";
    const back = "INFO The API server answers again";
    // Which engine it is depends on the machine. The next API server knows
    // nothing of what the first gave out, and says so when it is asked; nor is
    // it always asked for the Node before that is made.
    const others =
      /service port|^INFO Moving bytes|no longer kept|no Node of this name/;
    assert.deepEqual(
      lines.filter((line) => !others.test(line)),
      [
        `INFO kube-portal v${VERSION}: userspace proxy mode`,
        away,
        back,
        "INFO Steering by none: it was asked for",
        "INFO Ready",
        away,
        back,
      ],
      proxy.output,
    );
  });
});

Deno.test("run --watch poll follows changes too", async () => {
  await using stack = new AsyncDisposableStack();
  const world = new World(stack);
  await world.apiserver();
  const a = world.web("a", 1, world.endpoints("a", 1));
  const next = world.endpoints("next", 2);
  const proxy = world.proxy(
    `--master=${world.server}`,
    "--watch=poll",
    "--poll-interval=50ms",
  );
  await proxy.waitFor(" Ready ");
  await world.writer.create(a.service, a.slice);
  await answeredBy(a.ip, "a-1");
  await world.writer.replace(
    kubeSlice("a", next.addresses, { http: next.port }),
  );
  await answeredBy(a.ip, "next-1");
  await world.writer.delete(a.slice);
  await answeredBy(a.ip, "refused");
});

Deno.test("run --manifests needs no API server, and follows the files", async () => {
  await using stack = new AsyncDisposableStack();
  await using folder = await temporaryFolder();
  const world = new World(stack);
  const a = world.web("a", 1, world.endpoints("a", 1));
  const b = world.web("b", 2, world.endpoints("b", 2));
  await folder.write("a.yaml", manifest(a.service, a.slice));
  const proxy = world.proxy(`--manifests=${folder.path}`);
  await proxy.waitFor(" Ready ");
  assert.equal(await whoAnswers(a.ip, PORT), "a-1");
  assert.equal(await world.status("/healthz"), 200);
  assert.equal(await world.status("/livez"), 200);

  await folder.write("b.yaml", manifest(b.service, b.slice));
  await answeredBy(b.ip, "b-1");
  await folder.write("a.yaml", "kind: [\n");
  await proxy.waitFor("a.yaml");
  assert.equal(await whoAnswers(a.ip, PORT), "a-1", "as it last was");
  await Deno.remove(`${folder.path}/a.yaml`);
  await answeredBy(a.ip, "refused");
  assert.equal(await whoAnswers(b.ip, PORT), "b-1");
});

/** A Service whose endpoint echoes, served from files. */
async function serveEcho(stack: AsyncDisposableStack, ...args: string[]) {
  const folder = stack.use(await temporaryFolder());
  const world = new World(stack);
  const echo = stack.use(echoServer(`${world.range}.200.1`));
  const ip = world.ip(1);
  await folder.write(
    "echo.yaml",
    manifest(
      kubeService("echo", ip, { tcp: PORT }),
      kubeSlice("echo", [echo.address.ip], { tcp: echo.address.port }),
    ),
  );
  const proxy = world.proxy(`--manifests=${folder.path}`, ...args);
  await proxy.waitFor(/\bReady\b/);
  const connection = stack.adopt(
    await connect(ip, PORT),
    (connection) => connection.close(),
  );
  await say(connection, "hello");
  assert.equal(await hear(connection), "hello");
  return { world, proxy, ip, connection };
}

Deno.test("run ends on SIGTERM when the last connection has ended", async () => {
  await using stack = new AsyncDisposableStack();
  const { proxy, ip, connection } = await serveEcho(stack);
  proxy.kill("SIGTERM");
  await proxy.waitFor("removed service port");
  await answeredBy(ip, "refused");
  await say(connection, "still there?");
  assert.equal(await hear(connection), "still there?");
  await connection.closeWrite();
  assert.equal(await hear(connection), "");
  assert.equal(await ended(proxy), 0);
  assert.match(proxy.output, / Stopped\n$/);
  assert.equal(logLines(proxy, "(?:WARN|ERROR)").length, 0, proxy.output);
});

Deno.test("run cuts what is still open after --drain-timeout, and ends with 0", async () => {
  await using stack = new AsyncDisposableStack();
  const { proxy, connection } = await serveEcho(stack, "--drain-timeout=200ms");
  proxy.kill("SIGINT");
  assert.equal(await ended(proxy), 0);
  assert.equal(await hear(connection).catch(() => ""), "");
});

Deno.test("run ends at once on a second signal", async () => {
  await using stack = new AsyncDisposableStack();
  const { proxy, ip } = await serveEcho(stack, "--drain-timeout=1h");
  proxy.kill("SIGTERM");
  await proxy.waitFor("removed service port");
  await answeredBy(ip, "refused");
  // Within half a second it would count as the first one.
  const again = setInterval(() => proxy.kill("SIGTERM"), 300);
  try {
    assert.equal(await ended(proxy), 1);
  } finally {
    clearInterval(again);
  }
  assert.match(proxy.output, /second signal; open connections are cut/);
});

Deno.test("run takes a signal that comes twice at once, as through deno task, for one", async () => {
  await using stack = new AsyncDisposableStack();
  const { proxy, connection } = await serveEcho(stack);
  // Not the same one: two of a kind that wait are one to the kernel.
  proxy.kill("SIGINT");
  proxy.kill("SIGTERM");
  await proxy.waitFor("removed service port");
  await say(connection, "still there?");
  assert.equal(await hear(connection), "still there?");
  await connection.closeWrite();
  assert.equal(await ended(proxy), 0);
});

Deno.test("run ends on SIGTERM while it waits for an API server", async () => {
  await using stack = new AsyncDisposableStack();
  const world = new World(stack);
  const proxy = world.proxy(`--master=${world.server}`);
  await proxy.waitFor("Cannot reach the API server");
  proxy.kill("SIGTERM");
  assert.equal(await ended(proxy), 0);
});

Deno.test("run --logging-format json writes nothing but JSON objects", async () => {
  await using stack = new AsyncDisposableStack();
  const { proxy, connection } = await serveEcho(
    stack,
    "--logging-format=json",
    "-v=4",
  );
  proxy.kill("SIGTERM");
  await connection.closeWrite();
  assert.equal(await ended(proxy), 0);
  const lines = proxy.output.trim().split("\n");
  assert.ok(lines.length > 3, proxy.output);
  for (const line of lines) {
    const record = JSON.parse(line) as Record<string, unknown>;
    assert.equal(typeof record["message"], "string", line);
    assert.equal(typeof record["@timestamp"], "string", line);
    assert.match(String(record["level"]), /^(DEBUG|INFO|WARN|ERROR)/, line);
  }
});

Deno.test("apiserver ends with 0 on SIGTERM, open watches or not", async () => {
  await using stack = new AsyncDisposableStack();
  const world = new World(stack);
  const apiserver = await world.apiserver();
  const proxy = world.proxy(`--master=${world.server}`);
  await proxy.waitFor(" Ready ");
  const said = apiserver.output;
  apiserver.kill("SIGTERM");
  assert.equal(await ended(apiserver), 0);
  assert.equal(apiserver.output, said);
});
