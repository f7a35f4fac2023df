/**
 * What keeps a strategy from starting, as one sentence of that strategy.
 *
 * @module
 */
import { canonicalCidr } from "../ip.ts";
import type { SteeringError } from "../steering.ts";
import { CommandError } from "./command.ts";

/** "Cannot steer by …: why". */
type CannotSteer = (why: string) => SteeringError;

/** @throws {SteeringError} if one is not a CIDR */
export function canonicalCidrs(
  texts: readonly string[],
  cannotSteer: CannotSteer,
): string[] {
  return texts.map((text) => {
    const cidr = canonicalCidr(text);
    if (cidr === undefined) throw cannotSteer(`"${text}" is not a CIDR`);
    return cidr;
  });
}

/** A program that cannot be run is a reason why this strategy cannot work. */
export async function explained<T>(
  work: Promise<T>,
  cannotSteer: CannotSteer,
): Promise<T> {
  try {
    return await work;
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const steering = cannotSteer(error.message);
    steering.cause = error;
    throw steering;
  }
}
