/**
 * What a kernel mode counts of one IP family as it writes, for metrics: plain
 * numbers from the start of the process on.
 *
 * @module
 */
import { Distribution, exponentialBounds } from "./distribution.ts";

/** Upstream's buckets for syncs, seconds (facts 7.27, 7.28). */
const BOUNDS_S = exponentialBounds(0.001, { factor: 2, count: 15 });

export class KernelCounts {
  /** How long writes of everything took, seconds. */
  readonly fullSeconds = new Distribution(BOUNDS_S);
  /** How long writes of changes took, seconds. */
  readonly partialSeconds = new Distribution(BOUNDS_S);
  /** Writes that failed, of either kind; and of changes alone. */
  failures = 0;
  partialFailures = 0;
  /** Times that what nobody uses any more could not be deleted. */
  cleanupFailures = 0;
  /** By table: rules that the mode has in the kernel. */
  total: Readonly<Record<string, number>> = {};
  /** By table: rules of the last write. */
  last: Readonly<Record<string, number>> = {};
  /** UDP flows that were forgotten, since their endpoint no longer served. */
  flowsForgotten = 0;
}
