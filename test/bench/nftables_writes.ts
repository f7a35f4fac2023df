/**
 * What nftables mode costs to program, by the number of Services, in a network
 * namespace of its own:
 *
 *     deno run -A test/bench/nftables_writes.ts 10 1000 5000 10000
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import {
  type ModeInput,
  modeInput,
} from "../../proxy/rules/modes/mode_input.ts";
import { DEFAULT_MODE_SETTINGS } from "../support/mode_settings.ts";
import { NftablesProgrammer } from "../../proxy/rules/modes/nftables/nftables_programmer.ts";
import { Network } from "../support/netns.ts";
import { service, slice } from "../support/objects.ts";

const CHANGES = 5;
const SIGNAL = new AbortController().signal;

/** Two endpoints for each Service; `default/web-0` has so many more. */
function input(services: number, more: number): ModeInput {
  const numbers = Array.from({ length: services }, (_, i) => i);
  const few = ["10.244.0.2", "10.244.0.3"];
  const extra = Array.from({ length: more }, (_, i) => `10.244.1.${i}`);
  return modeInput({
    mode: "nftables",
    family: "IPv4",
    state: buildDesiredState(
      numbers.map((i) =>
        service(`default/web-${i}`, {
          clusterIP: `10.96.${i >> 8}.${i & 255}`,
        })
      ),
      {
        slices: numbers.map((i) =>
          slice(`default/web-${i}-1`, {
            endpoints: i === 0 ? [...few, ...extra] : few,
          })
        ),
        node: { name: "n1", zone: "" },
      },
    ),
    settings: DEFAULT_MODE_SETTINGS,
    nodeName: "n1",
    node: undefined,
    interfaceIps: [],
    serviceCidrs: [],
  });
}

async function milliseconds(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

function median(numbers: readonly number[]): number {
  return numbers.toSorted((a, b) => a - b)[numbers.length >> 1] ?? NaN;
}

print("Services  everything ms  one endpoint ms  check ms\n");
for (const text of Deno.args) {
  const services = Number(text);
  await using net = await Network.create({ pods: 0 });
  const programmer = new NftablesProgrammer({
    family: "IPv4",
    runner: net.node.runner,
    now: () => performance.now(),
  });
  const first = input(services, 0);
  const all = { full: true, changed: new Set<string>() };
  const everything = await milliseconds(() =>
    programmer.program(first, all, SIGNAL)
  );
  const changes: number[] = [];
  const checks: number[] = [];
  for (let i = 1; i <= CHANGES; i++) {
    const next = input(services, i);
    const scope = { full: false, changed: new Set(["default/web-0"]) };
    changes.push(
      await milliseconds(() => programmer.program(next, scope, SIGNAL)),
    );
    checks.push(await milliseconds(() => programmer.isIntact(SIGNAL)));
  }
  const cells = [everything, median(changes), median(checks)];
  const columns = cells.map((ms, i) =>
    ms.toFixed(0).padStart([13, 15, 8][i] ?? 0)
  );
  print(`${text.padStart(8)}  ${columns.join("  ")}\n`);
}
