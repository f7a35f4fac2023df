/**
 * A set whose members know their own place. What a connection enters and
 * leaves: a `Set` does both by hashing, and is made anew as it fills with what
 * was taken out, which for short connections is all the time.
 *
 * @module
 */

/** Can be in one roster at a time. */
export interface Rostered {
  /** Where it is; the roster's to write. -1: in none. */
  place: number;
}

/** In no order. */
export class Roster<T extends Rostered> {
  readonly #members: T[] = [];

  get size(): number {
    return this.#members.length;
  }

  add(member: T): void {
    member.place = this.#members.length;
    this.#members.push(member);
  }

  /** Does nothing if it is in none. */
  delete(member: T): void {
    const { place } = member;
    if (place === -1) return;
    const last = this.#members.pop()!;
    member.place = -1;
    if (last === member) return;
    last.place = place;
    this.#members[place] = last;
  }

  /** A copy: members may come and go meanwhile. */
  all(): readonly T[] {
    return [...this.#members];
  }
}
