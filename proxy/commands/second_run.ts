/**
 * A second `run` beside one that steers the machine: it fails at the first
 * address that both want, and its user wants to know of the first one.
 *
 * @module
 */
import { steeringLockHolder } from "../rules/mod.ts";
import { AddressTakenError } from "./addresses.ts";

/**
 * Waits for a listener.
 *
 * @throws {AddressTakenError} that names the kube-portal that steers here, and
 *   what to do about it, where there is one
 */
export async function namingWhoSteers(
  listening: Promise<void> | undefined,
): Promise<void> {
  try {
    await listening;
  } catch (error) {
    if (!(error instanceof AddressTakenError)) throw error;
    const holder = await steeringLockHolder();
    if (holder?.purpose !== "steer") throw error;
    throw new AddressTakenError(
      `${error.message}; kube-portal (${holder.heldBy}) steers this machine: stop it first, or replace it with --take-over`,
    );
  }
}
