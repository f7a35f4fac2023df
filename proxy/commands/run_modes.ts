/**
 * The two ways in which `run` may start its last stage: listeners and steering,
 * or a kernel mode. Either takes the lock, or takes it over, and from then on
 * whoever asks may take over from here.
 *
 * @module
 */
import type { Engine } from "../engine/engine.ts";
import type { SteeringRequest } from "../rules/mod.ts";
import type { KernelMode } from "../rules/modes/mode_input.ts";
import { startKernelMode } from "./kernel_mode.ts";
import type { RunParts } from "./run_parts.ts";
import type { KernelModeStart, ListenerMode } from "./running_proxy.ts";
import { steer } from "./steer.ts";

export function listenerMode(parts: RunParts, engine: Engine): ListenerMode {
  const { flags, read: { cidrs, ports }, client, namespaces, handOver } = parts;
  return {
    engine,
    async steering(known, signal) {
      const choice = await steer(flags.steer as SteeringRequest, {
        cidrs,
        client,
        known,
        ports,
        sharesTcp: engine.listenForRedirected !== undefined,
        namespaces,
        ...handOver.takeLock(signal),
        signal,
      });
      handOver.hold(choice.lock, parts.proxy());
      return choice.steering;
    },
  };
}

export function kernelModeStart(
  parts: RunParts,
  mode: KernelMode,
): KernelModeStart {
  const { read: { cidrs }, client, nodeName, handOver } = parts;
  return {
    mode,
    async kernel(known, signal) {
      const started = await startKernelMode({
        mode,
        config: () => parts.config,
        nodeName,
        cidrs,
        client,
        known,
        ...handOver.takeLock(signal),
        signal,
      });
      handOver.hold(started.lock, parts.proxy());
      return started.proxier;
    },
  };
}
