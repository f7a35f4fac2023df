/**
 * A program for tests: clients that mean harm, as many as one thread can be,
 * until it is killed.
 *
 *     deno run -A flood.ts connect 127.96.0.10 80 3000    so many connections a second
 *     deno run -A flood.ts hold 127.96.0.10 80 2000       so many that stay, and hardly speak
 *     deno run -A flood.ts datagrams 127.96.0.10 80 50000 20000
 *
 * `connect` sends a request as soon as it is connected, and closes when there is
 * an answer or an end; every fourth closes at once, without a word. `hold` has
 * every second connection send a byte each second, and the others nothing, and
 * prints `holding N` when all are open. `datagrams` sends so many, each from an
 * address and port of its own, at so many a second, and prints `sent N`.
 * Otherwise a line each second says how many have succeeded and failed.
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";
import { REQUEST_AND_CLOSE } from "../bench/load/protocol.ts";
import {
  datagramSocket,
  dial,
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  Loop,
  receive,
  send,
  sockaddr,
  sys,
} from "../bench/load/sys.ts";

/** Under way at a time: more would be this machine's own trouble. */
const OPEN_MAX = 1_000;
/** More would be lost in the backlog, and be tried again after a second. */
const DIALS_MAX = 64;
const SECOND_MS = 1_000;
/** Source ports of one address: below those that the kernel draws. */
const PORTS = 30_000;
const FIRST_PORT = 2_000;
/** Sent between two looks at the clock. */
const BURST = 32;

const OVER = EPOLLERR | EPOLLHUP | EPOLLRDHUP;

const [what = "", ip = "", port = "", ...numbers] = Deno.args;
const address = { ip, port: Number(port) };
const [count = 0, rate = 0] = numbers.map(Number);
const buffer = new Uint8Array(64 * 1024);

function connectForEver(perSecond: number): never {
  const to = sockaddr(address);
  const loop = new Loop();
  let begun = 0;
  let open = 0;
  let succeeded = 0;
  let failed = 0;
  const close = (fd: number) => {
    sys.close(fd);
    open--;
  };
  const onEvent = (fd: number, events: number) => {
    const isConnected = (events & EPOLLOUT) !== 0 && (events & EPOLLERR) === 0;
    if ((events & (EPOLLIN | OVER)) === 0 && isConnected) {
      if (fd % 4 !== 0) return void send(fd, REQUEST_AND_CLOSE);
      succeeded++;
      return close(fd);
    }
    if (receive(fd, buffer) > 0) succeeded++;
    else failed++;
    close(fd);
  };
  const startedAt = performance.now();
  let toldAt = startedAt;
  for (;;) {
    const now = performance.now();
    const due = (now - startedAt) / SECOND_MS * perSecond;
    for (; begun < due; begun++) {
      if (open >= OPEN_MAX) continue;
      loop.add(dial(to));
      open++;
    }
    if (now - toldAt >= SECOND_MS) {
      print(`${succeeded} succeeded, ${failed} failed, ${open} open\n`);
      toldAt = now;
    }
    loop.turn(SECOND_MS / perSecond, onEvent);
  }
}

function holdForEver(total: number): never {
  const to = sockaddr(address);
  const loop = new Loop();
  const held = new Set<number>();
  const dialling = new Set<number>();
  let ended = 0;
  const onEvent = (fd: number, events: number) => {
    if ((events & OVER) !== 0) {
      dialling.delete(fd);
      held.delete(fd);
      sys.close(fd);
      ended++;
      return;
    }
    if (dialling.delete(fd)) held.add(fd);
    while (receive(fd, buffer) > 0);
  };
  let toldAt = 0;
  const word = new Uint8Array([120]);
  let isTold = false;
  for (;;) {
    while (
      dialling.size < DIALS_MAX && held.size + dialling.size + ended < total
    ) {
      const fd = dial(to);
      loop.add(fd);
      dialling.add(fd);
    }
    loop.turn(SECOND_MS / 10, onEvent);
    if (!isTold && held.size + ended === total) {
      print(`holding ${held.size}, ${ended} ended\n`);
      isTold = true;
    }
    if (performance.now() - toldAt < SECOND_MS) continue;
    toldAt = performance.now();
    for (const fd of held) if (fd % 2 === 0) send(fd, word);
  }
}

/** Address and port of the n-th source; a million are 34 addresses. */
function source(n: number): { ip: string; port: number } {
  const host = Math.floor(n / PORTS) + 1;
  return { ip: `127.66.0.${host}`, port: FIRST_PORT + n % PORTS };
}

function boundSocket(
  address: { ip: string; port: number },
): number | undefined {
  try {
    return datagramSocket("bind", address);
  } catch {
    return undefined;
  }
}

function sendDatagrams(total: number, perSecond: number): void {
  const to = sockaddr(address);
  const word = new Uint8Array([120]);
  const pause = new Loop();
  const startedAt = performance.now();
  for (let sent = 0; sent < total;) {
    for (let n = 0; n < BURST && sent < total; n++) {
      const fd = boundSocket(source(sent++));
      // Somebody has that port at every address.
      if (fd === undefined) continue;
      sys.sendto(fd, word, word.length, 0, to, to.length);
      sys.close(fd);
    }
    const aheadMs = sent / perSecond * SECOND_MS -
      (performance.now() - startedAt);
    if (aheadMs > 0) pause.turn(aheadMs, () => {});
  }
  const seconds = (performance.now() - startedAt) / SECOND_MS;
  print(`sent ${total} in ${seconds.toFixed(1)} s\n`);
}

if (import.meta.main) {
  if (what === "connect") connectForEver(count);
  if (what === "hold") holdForEver(count);
  if (what === "datagrams") sendDatagrams(count, rate);
}
