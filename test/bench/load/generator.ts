/**
 * The load generator: a process that is asked for one measurement after
 * another, on standard input, and answers what it counted. One thread, one
 * epoll set, no promise while it measures.
 *
 * @module
 */
import { print } from "../../../proxy/commands/terminal.ts";
import { buffer, DESCRIPTORS, dialler } from "./dialler.ts";
import { oneByOne, paced } from "./latency.ts";
import { ANSWER, type Counted, type Question, REQUEST } from "./protocol.ts";
import {
  datagramSocket,
  EPOLLIN,
  EPOLLOUT,
  Loop,
  receive,
  send,
  sys,
} from "./sys.ts";
import { connect, keepAlive, stream } from "./throughput.ts";
import { Window } from "./window.ts";

/** Lost datagrams are replaced after this silence. */
const LOST_MS = 200;
/** Nothing at all has come for so long: it is broken. */
const STUCK_MS = 10_000;

/** Connections that stay open from one question to the next. */
const held: number[] = [];

/** One client; as many datagrams under way as `concurrency` says. */
function datagrams(
  question: Question & { readonly type: "datagrams" },
): Counted {
  const loop = new Loop();
  const window = new Window(question);
  const fd = datagramSocket("connect", question.to[0]!);
  loop.add(fd, EPOLLIN);
  const datagram = new Uint8Array(question.bytes);
  let heardAt = performance.now();
  const fill = () => {
    for (let n = 0; n < question.concurrency; n++) send(fd, datagram);
  };
  fill();
  const onEvent = () => {
    heardAt = performance.now();
    while (receive(fd, buffer) >= 0) {
      window.count++;
      send(fd, datagram);
    }
  };
  while (window.goesOn(performance.now())) {
    loop.turn(LOST_MS, onEvent);
    if (performance.now() - heardAt < LOST_MS) continue;
    window.failures++;
    heardAt = performance.now();
    fill();
  }
  const result = window.result();
  sys.close(fd);
  loop.close();
  return result;
}

/** One answer on each of many connections, which then stay. */
function openMany(question: Question): Counted {
  const loop = new Loop();
  const dialNext = dialler(question, loop);
  const got = new Int32Array(DESCRIPTORS).fill(-1);
  let answered = 0;
  let begun = 0;
  let failures = 0;
  const begin = () => {
    if (begun === question.concurrency) return;
    begun++;
    held.push(dialNext());
  };
  const onEvent = (fd: number, events: number) => {
    if (got[fd] === -1 && (events & EPOLLOUT) !== 0) {
      got[fd] = 0;
      send(fd, REQUEST);
    }
    if ((events & EPOLLIN) === 0) return;
    const count = receive(fd, buffer);
    if (count === 0) failures++;
    if (count > 0) got[fd]! += count;
    if (count !== 0 && got[fd] !== ANSWER.length) return;
    answered++;
    begin();
  };
  const startedAt = performance.now();
  for (let n = 0; n < 64; n++) begin();
  while (answered < question.concurrency) {
    const before = answered;
    loop.turn(STUCK_MS, onEvent);
    if (answered === before && performance.now() - startedAt > STUCK_MS) break;
  }
  loop.close();
  const seconds = (performance.now() - startedAt) / 1000;
  return {
    count: answered - failures,
    seconds,
    cpuSeconds: 0,
    othersCpus: 0,
    failures,
  };
}

function closeAll(): Counted {
  const count = held.length;
  for (const fd of held.splice(0)) sys.close(fd);
  return { count, seconds: 0, cpuSeconds: 0, othersCpus: 0, failures: 0 };
}

function answerTo(question: Question): Counted {
  switch (question.type) {
    case "stream":
      return stream(question);
    case "keep-alive":
      return keepAlive(question);
    case "connect":
      return connect(question);
    case "paced":
      return paced(question);
    case "datagrams":
      return datagrams(question);
    case "open":
      return openMany(question);
    case "close":
      return closeAll();
    case "one by one":
      return oneByOne(question);
  }
}

if (import.meta.main) {
  let text = "";
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
  for await (const chunk of lines) {
    text += chunk;
    for (let end = text.indexOf("\n"); end >= 0; end = text.indexOf("\n")) {
      const question = JSON.parse(text.slice(0, end)) as Question;
      text = text.slice(end + 1);
      print(`${JSON.stringify(answerTo(question))}\n`);
    }
  }
}
