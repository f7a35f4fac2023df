/**
 * The way of a packet through the kernel: which hooks it comes by, in which
 * order, and where routing sends it in between. In: a connection, and a mode
 * that says what happens at a hook. Out: every way that it may take. Pure.
 *
 *     arriving ─► prerouting ─► routing ─┬─► input ─► a process of the node
 *                                        └─► forward ──┐
 *     the node's own ─► output ─► routing ─────────────┴─► postrouting ─►
 *
 * What the node sends to itself goes out by `lo` and arrives there, past NAT.
 *
 * @module
 */
import type { Course, Left } from "./course.ts";
import {
  type Branch,
  type Connection,
  destinationText,
  firstPacket,
  type Hook,
  isLocalAddress,
  type Outcome,
  type WalkedMachine,
} from "./packet.ts";

/** What a mode does at a hook; all of its tables, in their order. */
export interface WalkedMode {
  readonly machine: WalkedMachine;
  atHook(hook: Hook, course: Course): readonly Left[];
}

/** Every way that the connection may take; their probabilities add up to 1. */
export function traverse(connection: Connection, mode: WalkedMode): Branch[] {
  const { machine } = mode;
  const start: Course = {
    packet: firstPacket(connection, machine),
    hops: [],
    probability: 1,
  };
  const isLocal = ({ packet }: Course) =>
    isLocalAddress(packet.destination, machine);
  if (connection.origin === "node") {
    return through(["output", "postrouting"], start, mode)
      .flatMap((end) =>
        "outcome" in end || !isLocal(end)
          ? [end]
          : through(["prerouting", "input"], byLoopback(end), mode)
      )
      .map(toBranch(isLocal));
  }
  return through(["prerouting"], start, mode)
    .flatMap((end) => {
      if ("outcome" in end) return [end];
      if (!isLocal(end)) return through(["forward", "postrouting"], end, mode);
      // IPVS takes packets that are for the node, and sends them on.
      return through(["input"], end, mode).flatMap((after) =>
        "outcome" in after || isLocal(after)
          ? [after]
          : through(["postrouting"], after, mode)
      );
    })
    .map(toBranch(isLocal));
}

function byLoopback(course: Course): Course {
  const packet = { ...course.packet, inInterface: "lo", isConfirmed: true };
  return { ...course, packet };
}

/** A course that is at its end before its last hook. */
type Ended = Course & { readonly outcome: Outcome };

function through(
  hooks: readonly Hook[],
  start: Course,
  mode: WalkedMode,
): (Course | Ended)[] {
  let courses: (Course | Ended)[] = [start];
  for (const hook of hooks) {
    courses = courses.flatMap((course) =>
      "outcome" in course ? [course] : mode.atHook(hook, course).map(ended)
    );
  }
  return courses;
}

function ended({ course, verdict }: Left): Course | Ended {
  switch (verdict) {
    case "drop":
      return { ...course, outcome: { kind: "dropped" } };
    case "reject":
      return { ...course, outcome: { kind: "refused" } };
    default:
      return course;
  }
}

function toBranch(
  isLocal: (course: Course) => boolean,
): (course: Course | Ended) => Branch {
  return (course) => ({
    probability: course.probability,
    hops: course.hops,
    packet: course.packet,
    outcome: "outcome" in course ? course.outcome : outcomeOf(course, isLocal),
  });
}

function outcomeOf(
  course: Course,
  isLocal: (course: Course) => boolean,
): Outcome {
  const { packet } = course;
  if (packet.isTranslated) {
    return { kind: "endpoint", endpoint: destinationText(packet) };
  }
  return { kind: isLocal(course) ? "node" : "routed" };
}
