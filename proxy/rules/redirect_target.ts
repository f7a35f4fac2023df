/**
 * The addresses on `lo` that redirected packets are sent to: made, looked for
 * and taken away through `ip`, in the way that the addresses of `route` are.
 *
 * @module
 */
import type { IpFamily } from "../ip.ts";
import { SteeringError } from "../steering.ts";
import {
  CommandError,
  type CommandRunner,
  isProgramMissing,
} from "./command.ts";
import { type Item, readMachine, writeItems } from "./ip_route.ts";
import { REDIRECT_TARGETS } from "./redirection.ts";

interface Options {
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/**
 * What makes a target bindable. For IPv4 the kernel asks its routes, for IPv6
 * the addresses of its interfaces.
 */
const TARGET_ITEMS: Readonly<Record<IpFamily, Item>> = {
  IPv4: `route ${REDIRECT_TARGETS.IPv4}/32`,
  IPv6: `address ${REDIRECT_TARGETS.IPv6}`,
};

/** What carries our mark and does not belong to `redirect`. */
export function withoutTargets(items: Iterable<Item>): Set<Item> {
  return new Set([...items].filter((item) => !isTargetItem(item)));
}

function isTargetItem(item: Item): boolean {
  return Object.values(TARGET_ITEMS).includes(item);
}

/** Whether this address is one that redirected packets are sent to. */
export function isRedirectTarget(ip: string): boolean {
  return Object.values(REDIRECT_TARGETS).includes(ip);
}

/**
 * Makes the target of a family local, if it is not.
 *
 * @returns how many addresses were added: 1 or 0
 * @throws {SteeringError} if it cannot be; one sentence says why
 */
export async function ensureTarget(
  family: IpFamily,
  options: Options,
): Promise<number> {
  const item = TARGET_ITEMS[family];
  const target = REDIRECT_TARGETS[family];
  try {
    const machine = await readMachine(options.runner, options.signal);
    if (machine.own.has(item)) return 0;
    if (machine.nodeAddresses.has(target) || machine.localIps.has(target)) {
      throw new SteeringError(
        `Cannot add ${target} on "lo": somebody else uses this address`,
      );
    }
    const failures = await writeItems("add", [item], options);
    const [error] = failures.values();
    if (error !== undefined) throw error;
    return 1;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    throw new SteeringError(`Cannot add ${target} on "lo": ${error.message}`, {
      cause: error,
    });
  }
}

/**
 * Takes back what `ensureTarget` has just added.
 *
 * @throws {SteeringError} if it cannot be removed
 */
export async function removeTarget(
  family: IpFamily,
  options: Options,
): Promise<void> {
  const failures = await writeItems("del", [TARGET_ITEMS[family]], options);
  const [error] = failures.values();
  if (error !== undefined) throw error;
}

/**
 * Takes the targets of both families away, if they are there.
 *
 * @throws {SteeringError} if one cannot be removed
 */
export async function removeTargets(options: Options): Promise<void> {
  try {
    const { own } = await readMachine(options.runner, options.signal);
    const items = [...own].filter(isTargetItem);
    const failures = await writeItems("del", items, options);
    const [error] = failures.values();
    if (error !== undefined) throw error;
  } catch (error) {
    // Without `ip` nothing was ever added.
    if (isProgramMissing(error)) return;
    if (!(error instanceof CommandError)) throw error;
    throw new SteeringError(
      `Cannot remove the addresses of redirect: ${error.message}`,
      { cause: error },
    );
  }
}
