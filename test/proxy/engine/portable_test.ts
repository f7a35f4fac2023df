import { createPortableEngine } from "../../../proxy/engine/portable/engine.ts";
import { systemClock } from "../../../watch/mod.ts";
import { udpRefusalTests } from "../../conformance/engine_udp_refusals.ts";
import { runEngineConformance } from "../../conformance/engine.ts";

runEngineConformance({
  name: "portable",
  // No port; a connected socket would not be told.
  unsendable: { ip: "127.0.0.1", port: 0 },
  createEngine: (settings) =>
    createPortableEngine({ clock: systemClock, ...settings }),
  skip: [{
    reason: "Deno.Conn.close() sends a FIN, never a reset",
    tests: [
      "when all refuse, the client's connection is reset",
      "a reset by the endpoint is a reset for the client",
      "[6.35] a client that is turned away is reset",
    ],
  }, {
    reason: "no datagram socket of Deno is connected",
    tests: udpRefusalTests.map(({ name }) => name),
  }],
});
