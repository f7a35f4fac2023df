/**
 * The endpoint of all measurements, a process of its own: HTTP as `protocol.ts`
 * has it, on TCP, and an echo on UDP, on one port of each address.
 *
 *     deno run -A test/bench/load/endpoint.ts PORT IP...
 *
 * @module
 */
import { print } from "../../../proxy/commands/terminal.ts";
import { ANSWER, BODY_BYTES } from "./protocol.ts";
import {
  accept,
  datagramSocket,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  listen,
  Loop,
  receive,
  send,
  sys,
} from "./sys.ts";

const STREAM_BYTES = 256 * 1024;
const ENDLESS = "HTTP/1.1 200 OK\r\n\r\n";

function serve(port: number, ips: readonly string[]): void {
  const loop = new Loop();
  const listeners = new Set<number>();
  const echoes = new Set<number>();
  for (const ip of ips) {
    const listener = listen({ ip, port });
    listeners.add(listener);
    loop.add(listener, EPOLLIN);
    const echo = datagramSocket("bind", { ip, port });
    echoes.add(echo);
    loop.add(echo, EPOLLIN);
  }
  const streaming = new Set<number>();
  const request = new Uint8Array(4096);
  const datagram = new Uint8Array(65_536);
  const from = new Uint8Array(16);
  const fromLength = new Uint32Array(1);
  const bulk = new Uint8Array(STREAM_BYTES).fill(120);
  bulk.set(new TextEncoder().encode(ENDLESS));

  const close = (fd: number) => {
    streaming.delete(fd);
    sys.close(fd);
  };
  const pump = (fd: number) => {
    while (send(fd, bulk) === bulk.length);
  };
  const onRequest = (fd: number, events: number) => {
    const count = receive(fd, request);
    if (count === 0) return close(fd);
    if (count < 0) {
      if ((events & (EPOLLERR | EPOLLHUP)) !== 0) close(fd);
      return;
    }
    // "GET /", "GET /close", "GET /stream"
    switch (request[5]) {
      case 32:
        send(fd, ANSWER);
        break;
      case 99:
        send(fd, ANSWER);
        return close(fd);
      default:
        streaming.add(fd);
        pump(fd);
    }
    // Its end may have come with it, and is told only once.
    if ((events & EPOLLRDHUP) !== 0) close(fd);
  };
  const onEvent = (fd: number, events: number) => {
    if (listeners.has(fd)) {
      for (let next = accept(fd); next !== -1; next = accept(fd)) {
        loop.add(next);
      }
      return;
    }
    if (echoes.has(fd)) {
      for (;;) {
        fromLength[0] = 16;
        const count = sys.recvfrom(
          fd,
          datagram,
          datagram.length,
          0,
          from,
          fromLength,
        );
        if (count < 0) return;
        sys.sendto(fd, datagram, count, 0, from, 16);
      }
    }
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)) !== 0) {
      return onRequest(fd, events);
    }
    if ((events & EPOLLOUT) !== 0 && streaming.has(fd)) pump(fd);
  };
  print(`Ready, answers of ${BODY_BYTES} bytes\n`);
  for (;;) loop.turn(60_000, onEvent);
}

if (import.meta.main) {
  const [port, ...ips] = Deno.args;
  serve(Number(port), ips);
}
