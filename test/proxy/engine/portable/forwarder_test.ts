import assert from "node:assert/strict";
import { setup } from "@std/log";
import { createPortableEngine } from "../../../../proxy/engine/portable/engine.ts";
import { PortSharing } from "../../../../proxy/port_sharing.ts";
import { systemClock } from "../../../../watch/mod.ts";
import { INTERNAL, policy } from "../../../conformance/engine.ts";
import { freePort } from "../../../support/kube_portal.ts";
import { dialServer, ending, refusing, until } from "../../../support/tcp.ts";

Deno.test("a forwarder tells of failures with a count, not one by one", async () => {
  const lines: string[] = [];
  await setup({
    level: "info",
    format: "text",
    stacks: false,
    write: (line) => lines.push(line),
  });
  const forwarder = createPortableEngine({ clock: systemClock }).forwarder(
    policy([refusing()]),
  );
  const { address } = await forwarder.listen(
    { ip: "127.0.0.1", port: 0 },
    INTERNAL,
  );
  for (let n = 0; n < 50; n++) {
    using connection = await dialServer(address);
    await ending(connection);
  }
  await until("counted", () => forwarder.stats().connectionsFailed === 50);
  const told = () =>
    lines.map((line) =>
      `${line.split(": ")[1]} ${/count=\d+/.exec(line)?.[0]}`
    );
  assert.equal(lines.length, 2, lines.join(""));
  await forwarder.close(AbortSignal.abort());
  assert.equal(lines.length, 4, lines.join(""));
  for (const line of lines) assert.match(line, /service=default\/web:http/);
  assert.equal(told().filter((line) => line.endsWith("count=1")).length, 2);
  assert.equal(told().filter((line) => line.endsWith("count=49")).length, 2);
});

Deno.test({
  name:
    "two processes may share a Service's own address, and no port that steering chose",
  ignore: Deno.build.os !== "linux",
  async fn() {
    const port = freePort();
    const address = { ip: "127.0.0.1", port };
    const options = { clock: systemClock, portSharing: new PortSharing(true) };
    const sharing = () =>
      createPortableEngine(options).forwarder(policy([refusing()]));
    const [first, second, third] = [sharing(), sharing(), sharing()];
    const alone = createPortableEngine({ clock: systemClock })
      .forwarder(policy([refusing()]));
    await first.listen(address, INTERNAL);
    await second.listen(address, INTERNAL);
    const { AddrInUse } = Deno.errors;
    await assert.rejects(alone.listen(address, INTERNAL), AddrInUse);
    const led = { ...INTERNAL, serviceAddress: { ip: "10.96.0.10", port: 80 } };
    await assert.rejects(third.listen(address, led), AddrInUse);
    for (const each of [first, second, third, alone]) {
      await each.close(AbortSignal.abort());
    }
  },
});
