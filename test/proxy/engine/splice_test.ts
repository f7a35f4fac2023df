import { createSpliceEngine } from "../../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../../watch/mod.ts";
import { ffi } from "../../support/ffi.ts";
import { runEngineConformance } from "../../conformance/engine.ts";

for (const workers of [1, 2]) {
  runEngineConformance({
    name: `splice, ${workers} worker${workers === 1 ? "" : "s"}`,
    missing: ffi(),
    hasOwnTime: true,
    // Its sockets may not broadcast; Deno's may.
    unsendable: { ip: "255.255.255.255", port: 53 },
    skip: [{
      reason: "its clock is the machine's, which nobody sets back",
      tests: ["UDP flows still end when somebody sets the clock back"],
    }],
    createEngine(settings) {
      return createSpliceEngine({ clock: systemClock, ...settings, workers });
    },
  });
}
