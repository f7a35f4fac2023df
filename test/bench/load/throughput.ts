/**
 * As much as goes: streams, requests on open connections, new connections.
 * Each asks again as soon as it has its answer.
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
  REQUEST_STREAM,
} from "./protocol.ts";
import {
  EPOLLERR,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  Loop,
  receive,
  send,
  sys,
} from "./sys.ts";
import { Window } from "./window.ts";

/** Bytes, as fast as they come, on connections that stay. */
export function stream(question: Question): Counted {
  const loop = new Loop();
  const open = dialler(question, loop);
  const fds = Array.from({ length: question.concurrency }, open);
  const asked = new Set<number>();
  const window = new Window(question);
  const onEvent = (fd: number, events: number) => {
    if (!asked.has(fd) && (events & EPOLLOUT) !== 0) {
      asked.add(fd);
      send(fd, REQUEST_STREAM);
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLRDHUP)) === 0) return;
    let count = receive(fd, buffer);
    // Not until it is empty: with a fast sender that is never.
    for (let turns = 0; count > 0 && turns < 8; turns++) {
      window.count += count;
      count = receive(fd, buffer);
    }
    if (count === 0) throw new Error("A stream has ended");
    if (count > 0) {
      window.count += count;
      again.add(fd);
    }
  };
  let again = new Set<number>();
  while (window.goesOn(performance.now())) {
    const now = again;
    again = new Set();
    for (const fd of now) onEvent(fd, EPOLLIN);
    loop.turn(again.size > 0 ? 0 : 100, onEvent);
  }
  const result = window.result();
  for (const fd of fds) sys.close(fd);
  loop.close();
  return result;
}

/** Connections that ask again as soon as they have their answer. */
export function keepAlive(question: Question): Counted {
  const loop = new Loop();
  const open = dialler(question, loop);
  const fds = Array.from({ length: question.concurrency }, open);
  const got = new Int32Array(DESCRIPTORS).fill(-1);
  const window = new Window(question);
  const onEvent = (fd: number, events: number) => {
    if (got[fd] === -1 && (events & EPOLLOUT) !== 0) {
      got[fd] = 0;
      send(fd, REQUEST);
      return;
    }
    if ((events & EPOLLIN) === 0) return;
    const count = receive(fd, buffer);
    if (count === 0) throw new Error("A connection has ended");
    if (count < 0) return;
    got[fd]! += count;
    if (got[fd] !== ANSWER.length) return;
    got[fd] = 0;
    window.count++;
    send(fd, REQUEST);
  };
  while (window.goesOn(performance.now())) loop.turn(100, onEvent);
  const result = window.result();
  for (const fd of fds) sys.close(fd);
  loop.close();
  return result;
}

/** A new connection for each request; the endpoint closes first. */
export function connect(question: Question): Counted {
  const loop = new Loop();
  const window = new Window(question);
  const open = dialler(question, loop);
  const got = new Int32Array(DESCRIPTORS).fill(-1);
  const live = new Set<number>();
  const begin = () => {
    const fd = open();
    got[fd] = -1;
    live.add(fd);
  };
  const onEvent = (fd: number, events: number) => {
    if (!live.has(fd)) return;
    if (got[fd] === -1 && (events & EPOLLOUT) !== 0) {
      got[fd] = 0;
      send(fd, REQUEST_AND_CLOSE);
    }
    if ((events & (EPOLLIN | EPOLLERR | EPOLLRDHUP)) === 0) return;
    let count = receive(fd, buffer);
    while (count > 0) {
      got[fd]! += count;
      count = receive(fd, buffer);
    }
    // More may come, unless this event said that it is the end.
    if (count < 0 && (events & EPOLLERR) === 0) return;
    if (got[fd] === ANSWER.length) window.count++;
    else window.failures++;
    live.delete(fd);
    sys.close(fd);
    begin();
  };
  for (let n = 0; n < question.concurrency; n++) begin();
  while (window.goesOn(performance.now())) loop.turn(100, onEvent);
  const result = window.result();
  for (const fd of live) sys.close(fd);
  loop.close();
  return result;
}
