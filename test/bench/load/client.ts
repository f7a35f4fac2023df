/**
 * The load generator and the endpoints as the benchmarks see them: started,
 * asked, stopped.
 *
 * @module
 */
import type { Child } from "../../support/child.ts";
import { freePort } from "../../support/kube_portal.ts";
import { script, startTied } from "../subjects.ts";
import type { Counted, Question } from "./protocol.ts";
import type { Address } from "./sys.ts";

/** A process that serves several addresses. */
export class Endpoints implements AsyncDisposable {
  readonly #child: Child;

  private constructor(child: Child, readonly addresses: readonly Address[]) {
    this.#child = child;
  }

  static async start(ips: readonly string[]): Promise<Endpoints> {
    const port = freePort();
    const child = startTied(script("load/endpoint.ts", String(port), ...ips));
    await child.waitFor("Ready");
    return new Endpoints(child, ips.map((ip) => ({ ip, port })));
  }

  get pid(): number {
    return this.#child.pid;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#child[Symbol.asyncDispose]();
  }
}

/** A process that answers one question after another. */
export class Generator implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  constructor() {
    const [program, ...args] = script("load/generator.ts");
    this.#process = new Deno.Command(program, {
      args,
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reader = this.#process.stdout
      .pipeThrough(new TextDecoderStream()).getReader();
  }

  async ask(question: Question): Promise<Counted> {
    const line = `${JSON.stringify(question)}\n`;
    await this.#writer.write(new TextEncoder().encode(line));
    while (!this.#text.includes("\n")) {
      const { value } = await this.#reader.read();
      if (value === undefined) throw new Error("The load generator has ended");
      this.#text += value;
    }
    const end = this.#text.indexOf("\n");
    const answer = JSON.parse(this.#text.slice(0, end)) as Counted;
    this.#text = this.#text.slice(end + 1);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#reader.cancel();
    await this.#process.status;
  }
}
