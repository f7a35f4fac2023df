/**
 * Connections of the load generator.
 *
 * @module
 */
import type { Question } from "./protocol.ts";
import { dial, type Loop, sockaddr } from "./sys.ts";

/** Descriptors are below this (`ulimit -n` of any sane machine). */
export const DESCRIPTORS = 65_536;

/** What answers are read into, by all. */
export const buffer: Uint8Array<ArrayBuffer> = new Uint8Array(256 * 1024);

/** Opens connections in turn over the addresses. */
export function dialler(question: Question, loop: Loop): () => number {
  const targets = question.to.map(sockaddr);
  let next = 0;
  return () => {
    const fd = dial(targets[next++ % targets.length]!);
    loop.add(fd);
    return fd;
  };
}
