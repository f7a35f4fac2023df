/**
 * What a client that means harm, or is merely broken, can hold: by raw sockets,
 * with limits short enough to wait for.
 *
 * @module
 */
import assert from "node:assert/strict";
import { HTTP_LIMITS, serve } from "../../../watch/http/server.ts";
import { connect, hear, say } from "../../support/loopback.ts";

const QUICK = { headMs: 300, requestMs: 600, stallMs: 300, idleMs: 300 };
const BOUNDED = { timeout: 30_000 };

/** What is sent, and what comes before the end of the connection. */
const BROKEN: Readonly<Record<string, { sent: string; status: string }>> = {
  "nothing": { sent: "", status: "408 Request Timeout" },
  "half a head": {
    sent: "GET / HTTP/1.1\r\nHost: x\r\n",
    status: "408 Request Timeout",
  },
  "half a body": {
    sent: "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nhalf",
    status: "408 Request Timeout",
  },
  "no HTTP": { sent: "hello\r\n\r\n", status: "400 Bad Request" },
  "a Host that is none": {
    sent: "GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n",
    status: "400 Bad Request",
  },
  "a head that is too long": {
    sent: `GET / HTTP/1.1\r\nHost: x\r\nX: ${"y".repeat(20_000)}\r\n\r\n`,
    status: "431 Request Header Fields Too Large",
  },
};

const REQUEST = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

/** Answers with what was sent, `/read`, or all that it has, `/endless`. */
async function handler(request: Request): Promise<Response> {
  const { pathname } = new URL(request.url);
  if (pathname === "/read") return new Response(await request.text());
  if (pathname !== "/endless") return new Response("fine\n");
  const chunk = new Uint8Array(1 << 20);
  return new Response(
    new ReadableStream({
      pull: (controller) => controller.enqueue(chunk),
      cancel: () => cancelled.resolve(),
    }),
  );
}
let cancelled = Promise.withResolvers<void>();

async function allOf(connection: Deno.TcpConn): Promise<string> {
  let all = "";
  while (true) {
    const more = await hear(connection).catch(() => "");
    if (more === "") return all;
    all += more;
  }
}

for (const [what, { sent, status }] of Object.entries(BROKEN)) {
  Deno.test(
    `serve() ends a connection that sends ${what}`,
    BOUNDED,
    async () => {
      const server = await serve({ ip: "127.0.0.1", port: 0 }, handler, QUICK);
      using connection = await connect("127.0.0.1", server.addr.port);
      await say(connection, sent);
      const answer = await allOf(connection);
      assert.ok(answer.startsWith(`HTTP/1.1 ${status}\r\n`), answer);
      await server.shutdown();
    },
  );
}

Deno.test(
  "serve() ends a connection that sends a byte now and then",
  BOUNDED,
  async () => {
    const server = await serve({ ip: "127.0.0.1", port: 0 }, handler, QUICK);
    using connection = await connect("127.0.0.1", server.addr.port);
    const drip = (async () => {
      for (;;) {
        await say(connection, "G");
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    })();
    await assert.rejects(drip);
    await server.shutdown();
  },
);

Deno.test(
  "serve() ends a connection that does not read its answer",
  BOUNDED,
  async () => {
    cancelled = Promise.withResolvers();
    const server = await serve({ ip: "127.0.0.1", port: 0 }, handler, QUICK);
    using connection = await connect("127.0.0.1", server.addr.port);
    await say(connection, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    await cancelled.promise;
    await server.shutdown();
  },
);

Deno.test(
  "serve() cancels the answer of a client that has gone",
  BOUNDED,
  async () => {
    cancelled = Promise.withResolvers();
    const server = await serve({ ip: "127.0.0.1", port: 0 }, handler);
    const connection = await connect("127.0.0.1", server.addr.port);
    await say(connection, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
    await hear(connection);
    connection.close();
    await cancelled.promise;
    await server.shutdown();
  },
);

Deno.test(
  "serve() lets no idle connections keep a request out",
  BOUNDED,
  async () => {
    const connections = 8;
    const server = await serve({ ip: "127.0.0.1", port: 0 }, handler, {
      connections,
    });
    const { port } = server.addr;
    const open: Deno.TcpConn[] = [];
    for (let n = 0; n < 3 * connections; n++) {
      const connection = await connect("127.0.0.1", port);
      open.push(connection);
      await say(connection, "GET / HTTP/1.1\r\nHo");
    }
    using asking = await connect("127.0.0.1", port);
    await say(
      asking,
      "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    );
    assert.match(
      await allOf(asking),
      /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nfine\n$/s,
    );
    const ended = open.slice(0, 2 * connections + 1);
    for (const connection of ended) assert.equal(await allOf(connection), "");
    for (const connection of open) connection.close();
    await server.shutdown();
  },
);

Deno.test(
  "serve() takes no more connections than it answers at a time",
  BOUNDED,
  async () => {
    const slow = Promise.withResolvers<void>();
    const server = await serve(
      { ip: "127.0.0.1", port: 0 },
      () => slow.promise.then(() => new Response("fine\n")),
      { connections: 2 },
    );
    const { port } = server.addr;
    const open: Deno.TcpConn[] = [];
    for (let n = 0; n < 2; n++) {
      const connection = await connect("127.0.0.1", port);
      open.push(connection);
      await say(connection, REQUEST);
    }
    using late = await connect("127.0.0.1", port);
    assert.equal(await allOf(late), "");
    slow.resolve();
    for (const connection of open) {
      assert.match(await hear(connection), /^HTTP\/1\.1 200 OK\r\n/);
      connection.close();
    }
    await server.shutdown();
  },
);

Deno.test(
  "serve() lets nobody who does not read keep a request out",
  BOUNDED,
  async () => {
    const connections = 4;
    const server = await serve({ ip: "127.0.0.1", port: 0 }, handler, {
      connections,
    });
    const { port } = server.addr;
    const open: Deno.TcpConn[] = [];
    for (let n = 0; n < connections; n++) {
      const connection = await connect("127.0.0.1", port);
      open.push(connection);
      await say(connection, "GET /endless HTTP/1.1\r\nHost: x\r\n\r\n");
      assert.match(await hear(connection), /^HTTP\/1\.1 200 OK\r\n/);
    }
    // Until all of them are full, a new one may find us busy.
    let answer = "";
    while (answer === "") {
      using asking = await connect("127.0.0.1", port);
      await say(asking, REQUEST).catch(() => {});
      answer = await allOf(asking);
    }
    assert.match(answer, /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\nfine\n$/s);
    for (const connection of open) connection.close();
    await server.shutdown();
  },
);

Deno.test(
  "serve() ends a connection that asks on and on without reading",
  BOUNDED,
  async () => {
    let asked = 0;
    const server = await serve({ ip: "127.0.0.1", port: 0 }, () => {
      asked++;
      return new Response("fine\n");
    });
    using connection = await connect("127.0.0.1", server.addr.port);
    const many = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(10_000);
    await say(connection, many).catch(() => {});
    await allOf(connection);
    assert.ok(asked <= HTTP_LIMITS.requests, `${asked}`);
    await server.shutdown();
  },
);

Deno.test(
  "serve() answers a few requests that were sent at once, in their order",
  BOUNDED,
  async () => {
    const server = await serve(
      { ip: "127.0.0.1", port: 0 },
      (request) => new Response(new URL(request.url).pathname),
    );
    using connection = await connect("127.0.0.1", server.addr.port);
    const paths = Array.from({ length: HTTP_LIMITS.requests }, (_, n) => n);
    await say(
      connection,
      paths.map((n) =>
        `GET /${n} HTTP/1.1\r\nHost: x\r\n${
          n === paths.length - 1 ? "Connection: close\r\n" : ""
        }\r\n`
      ).join(""),
    );
    const answers = await allOf(connection);
    const got = [...answers.matchAll(/\r\n\r\n\/(\d+)/g)].map(([, n]) =>
      Number(n)
    );
    assert.deepEqual(got, paths);
    await server.shutdown();
  },
);

Deno.test(
  "serve() keeps a connection for the next request, and tells lengths",
  BOUNDED,
  async () => {
    const server = await serve({ ip: "127.0.0.1", port: 0 }, handler);
    using connection = await connect("127.0.0.1", server.addr.port);
    for (let n = 0; n < 3; n++) {
      await say(
        connection,
        "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nagain",
      );
      assert.match(
        await hear(connection),
        /^HTTP\/1\.1 200 OK\r\n.*content-length: 5\r\n.*\r\n\r\nagain$/is,
      );
    }
    await say(connection, "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert.match(await hear(connection), /^HTTP\/1\.1 200 OK\r\n.*\r\n\r\n$/s);
    await server.shutdown();
  },
);

Deno.test(
  "serve() answers 500 where a handler throws, and goes on",
  BOUNDED,
  async () => {
    let isBroken = true;
    const server = await serve({ ip: "127.0.0.1", port: 0 }, () => {
      if (isBroken) throw new Error("broken");
      return new Response("fine");
    });
    const url = `http://127.0.0.1:${server.addr.port}/`;
    const broken = await fetch(url);
    await broken.body?.cancel();
    assert.equal(broken.status, 500);
    isBroken = false;
    assert.equal(await (await fetch(url)).text(), "fine");
    await server.shutdown();
  },
);

Deno.test("serve() says who has an address, in Deno's words", async () => {
  const server = await serve({ ip: "127.0.0.1", port: 0 }, handler);
  const { port } = server.addr;
  await assert.rejects(
    serve({ ip: "127.0.0.1", port }, handler),
    Deno.errors.AddrInUse,
  );
  await assert.rejects(
    serve({ ip: "192.0.2.1", port: 0 }, handler),
    Deno.errors.AddrNotAvailable,
  );
  await server.shutdown();
});
