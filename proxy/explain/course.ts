/**
 * One of the ways that a packet may take, as far as it has come. Rules that
 * choose at random split a course in two; every walk keeps all of them. Pure.
 *
 * @module
 */
import type { Hook, Hop, Packet } from "./packet.ts";

export interface Course {
  readonly packet: Packet;
  readonly hops: readonly Hop[];
  /** Of all there may be. */
  readonly probability: number;
}

/** How a chain, or a hook, was left. */
export type Verdict =
  /** At its end, or by `return`: whoever sent it here goes on. */
  | "continue"
  /** The table has nothing more to say at this hook. */
  | "accept"
  | "drop"
  | "reject";

export interface Left {
  readonly course: Course;
  readonly verdict: Verdict;
}

/** What a rule did, or what stands in its place. */
export interface Step {
  readonly hook: Hook;
  readonly table: string;
  readonly chain: string;
  readonly rule: string;
  readonly comment: string;
  /** What it changed. */
  readonly changes?: Partial<Packet>;
  /** Default: 1. */
  readonly probability?: number;
}

/** The course after one more hop. */
export function take(
  course: Course,
  { changes = {}, probability = 1, ...step }: Step,
): Course {
  const after = { ...course.packet, ...changes };
  const hop = { ...step, probability, before: course.packet, after };
  return {
    packet: after,
    hops: [...course.hops, hop],
    probability: course.probability * probability,
  };
}

/** The course where a rule at random did not hold. */
export function passBy(course: Course, probability: number): Course {
  return { ...course, probability: course.probability * probability };
}
