/**
 * Other work on the machine: benchmarks wait a while for it to pause, and say
 * afterwards how much there was.
 *
 * @module
 */
import { machineCpuSeconds } from "./load/cpu.ts";

/** CPUs that others may use. */
const QUIET_CPUS = 0.2;
const LOOK_MS = 100;

let patienceMs = 0;

/** How long `waitForQuiet` may take in all, from now on. */
export function setPatience(ms: number): void {
  patienceMs = ms;
}

/** Waits until nobody else computes, or patience has run out. */
export async function waitForQuiet(): Promise<void> {
  while (patienceMs > 0) {
    const before = machineCpuSeconds();
    const at = performance.now();
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
    const seconds = (performance.now() - at) / 1000;
    patienceMs -= seconds * 1000;
    if ((machineCpuSeconds() - before) / seconds <= QUIET_CPUS) return;
  }
}
