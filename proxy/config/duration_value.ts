/**
 * A duration on its way into a message.
 *
 * @module
 */
import { goDurationText } from "../duration.ts";

/** Milliseconds that are shown as Go shows a duration: `1m0s`, no quotes. */
export class DurationValue {
  constructor(readonly ms: number) {}

  toString(): string {
    return goDurationText(this.ms);
  }
}
