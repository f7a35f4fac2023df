import assert from "node:assert/strict";
import { UserError } from "../../../proxy/commands/errors.ts";
import { servePersistently } from "../../../proxy/commands/serve_status.ts";
import { FakeClock } from "../../support/fake_clock.ts";

const FLAG = "metrics-bind-address";

function taken() {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr;
  return { listener, address: { ip: "127.0.0.1", port } };
}

const load = () => Promise.resolve(() => new Response("served"));

Deno.test("[7.23] servePersistently() tries every 5 s for an address that somebody has", async () => {
  const { listener, address } = taken();
  const clock = new FakeClock();
  await using server = servePersistently({ address, flag: FLAG, load, clock });
  await clock.untilSleeping();
  assert.equal(clock.nextInMs, 5_000);
  await clock.advance(5_000);
  assert.equal(clock.nextInMs, 5_000);
  listener.close();
  await clock.advance(5_000);
  await server.listening;
  using client = Deno.createHttpClient({ poolMaxIdlePerHost: 0 });
  const url = `http://127.0.0.1:${address.port}/`;
  assert.equal(await (await fetch(url, { client })).text(), "served");
});

Deno.test("[7.23] servePersistently() with hardFail says at once that an address is taken", async () => {
  const { listener, address } = taken();
  using _listener = listener;
  const clock = new FakeClock();
  await using server = servePersistently({
    address,
    flag: FLAG,
    load,
    clock,
    hardFail: true,
  });
  await assert.rejects(server.listening, UserError);
});

Deno.test("servePersistently() ends while it waits for its address", async () => {
  const { listener, address } = taken();
  using _listener = listener;
  const clock = new FakeClock();
  const server = servePersistently({ address, flag: FLAG, load, clock });
  await clock.untilSleeping();
  await server[Symbol.asyncDispose]();
  await server.listening;
  assert.equal(clock.sleeping, 0);
});
