/**
 * How long single answers take: under a given load, and with none.
 *
 * @module
 */
import { buffer, DESCRIPTORS, dialler } from "./dialler.ts";
import {
  ANSWER,
  type Counted,
  type Question,
  REQUEST,
  REQUEST_AND_CLOSE,
} from "./protocol.ts";
import {
  dial,
  EPOLLERR,
  EPOLLIN,
  EPOLLOUT,
  Loop,
  receive,
  send,
  sockaddr,
  sys,
} from "./sys.ts";
import { Window } from "./window.ts";

/** Nothing at all has come for so long: it is broken. */
const STUCK_MS = 10_000;

/**
 * Requests at a given rate, at random times (a Poisson process) that depend on
 * no answer: time counts from when a request was due, also if no connection was
 * free then.
 */
export function paced(
  question: Question & { readonly type: "paced" },
): Counted {
  const loop = new Loop();
  const window = new Window(question);
  const open = dialler(question, loop);
  const fds = Array.from({ length: question.concurrency }, open);
  const got = new Int32Array(DESCRIPTORS).fill(-1);
  const dueAt = new Float64Array(DESCRIPTORS);
  const idle: number[] = [];
  const meanMs = 1000 / question.perSecond;
  let next = performance.now() + 50;
  const onEvent = (fd: number, events: number) => {
    if (got[fd] === -1 && (events & EPOLLOUT) !== 0) {
      got[fd] = 0;
      idle.push(fd);
    }
    if ((events & EPOLLIN) === 0) return;
    const count = receive(fd, buffer);
    if (count === 0) throw new Error("A connection has ended");
    if (count < 0) return;
    got[fd]! += count;
    if (got[fd] !== ANSWER.length) return;
    got[fd] = 0;
    window.count++;
    if (window.isOpen) {
      window.timesUs.push((performance.now() - dueAt[fd]!) * 1000);
    }
    idle.push(fd);
  };
  for (;;) {
    const now = performance.now();
    if (!window.goesOn(now)) break;
    while (next <= now && idle.length > 0) {
      const fd = idle.pop()!;
      dueAt[fd] = next;
      send(fd, REQUEST);
      next += exponential(meanMs);
    }
    loop.turn(next <= now ? 100 : next - now, onEvent);
  }
  const result = window.result();
  for (const fd of fds) sys.close(fd);
  loop.close();
  return result;
}

/** From the dial to the whole answer, with nothing else under way. */
export function oneByOne(
  question: Question & { readonly type: "one by one" },
): Counted {
  const { pauseMs = 0 } = question;
  const targets = question.to.map(sockaddr);
  const loop = new Loop();
  const timesUs: number[] = [];
  let failures = 0;
  const startedAt = performance.now();
  for (let n = 0; n < question.concurrency; n++) {
    if (pauseMs > 0) loop.turn(exponential(pauseMs), () => {});
    const begin = performance.now();
    const fd = dial(targets[Math.floor(Math.random() * targets.length)]!);
    loop.add(fd);
    let got = -1;
    let isOver = false;
    const onEvent = (_: number, events: number) => {
      if (got === -1 && (events & EPOLLOUT) !== 0) {
        got = 0;
        send(fd, REQUEST_AND_CLOSE);
      }
      let count = receive(fd, buffer);
      while (count > 0) {
        got += count;
        count = receive(fd, buffer);
      }
      isOver = count === 0 || (events & EPOLLERR) !== 0;
    };
    while (!isOver && performance.now() - begin < STUCK_MS) {
      loop.turn(1000, onEvent);
    }
    if (got === ANSWER.length) timesUs.push((performance.now() - begin) * 1000);
    else failures++;
    sys.close(fd);
  }
  loop.close();
  const sorted = Float64Array.from(timesUs).sort();
  return {
    count: timesUs.length,
    seconds: (performance.now() - startedAt) / 1000,
    cpuSeconds: 0,
    othersCpus: 0,
    failures,
    p50Us: sorted[Math.floor(sorted.length * 0.5)] ?? NaN,
    p99Us: sorted[Math.floor(sorted.length * 0.99)] ?? NaN,
  };
}

/** Of a Poisson process: the time until the next, whenever the last was. */
function exponential(meanMs: number): number {
  return -Math.log(1 - Math.random()) * meanMs;
}
