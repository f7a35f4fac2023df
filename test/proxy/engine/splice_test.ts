import { createPortableEngine } from "../../../proxy/engine/portable/engine.ts";
import { createSpliceEngine } from "../../../proxy/engine/splice/engine.ts";
import { systemClock } from "../../../watch/mod.ts";
import { ffi } from "../../support/ffi.ts";
import { runEngineConformance } from "../../conformance/engine.ts";

for (const workers of [1, 2]) {
  runEngineConformance({
    name: `splice, ${workers} worker${workers === 1 ? "" : "s"}`,
    missing: ffi(),
    createEngine(settings) {
      const options = { clock: systemClock, ...settings };
      const udp = createPortableEngine(options);
      return createSpliceEngine({ ...options, workers, udp });
    },
  });
}
