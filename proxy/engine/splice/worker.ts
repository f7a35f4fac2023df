/**
 * Where a data thread begins: the file that `new Worker` is given. In: a
 * `ThreadStart`, then commands. It only puts `thread.ts` on its feet.
 *
 * @module
 */
import { type Libc, openLibc } from "./libc.ts";
import { Mailbox } from "./mailbox.ts";
import type { Command, Report, ThreadStart } from "./messages.ts";
import { DataThread } from "./thread.ts";

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage:
    | ((event: MessageEvent<ThreadStart | readonly Command[]>) => void)
    | null;
  postMessage(report: Report): void;
  close(): void;
}

const scope = globalThis as unknown as WorkerScope;

function begin(): void {
  let mailbox: Mailbox | undefined;
  scope.onmessage = ({ data }) => {
    if (mailbox !== undefined) {
      return mailbox.receive(data as readonly Command[]);
    }
    const start = data as ThreadStart;
    mailbox = new Mailbox(start.mailCount);
    run(start, mailbox);
  };
}

async function run(start: ThreadStart, mailbox: Mailbox): Promise<void> {
  const post = (report: Report) => scope.postMessage(report);
  let libc: Libc;
  let thread: DataThread;
  try {
    libc = openLibc();
    thread = new DataThread({ libc, mailbox, start, post });
  } catch (error) {
    post({ type: "unable", reason: (error as Error).message });
    return scope.close();
  }
  post({ type: "ready" });
  await thread.run();
  libc.close();
  post({ type: "closed" });
  scope.close();
}

begin();
