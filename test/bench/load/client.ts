/**
 * The load generator and the endpoints as the benchmarks see them: started,
 * asked, stopped.
 *
 * @module
 */
import type { Child } from "../../support/child.ts";
import { freePort } from "../../support/kube_portal.ts";
import type { Namespace } from "../../support/netns.ts";
import { script, startTied } from "../subjects.ts";
import type { Counted, Question } from "./protocol.ts";
import type { Address } from "./sys.ts";

/** A process that serves several addresses. */
export class Endpoints implements AsyncDisposable {
  readonly #child: Child;

  private constructor(child: Child, readonly addresses: readonly Address[]) {
    this.#child = child;
  }

  /** @param namespace where they are; missing: here */
  static async start(
    ips: readonly string[],
    namespace?: Namespace,
  ): Promise<Endpoints> {
    const port = freePort();
    const command = script("load/endpoint.ts", String(port), ...ips);
    const child = namespace?.start(command) ?? startTied(command);
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

/** A process that answers one question after another, a line of JSON each. */
export class Asked<Question, Answer> implements AsyncDisposable {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #text = "";

  /** @param namespace where it runs; missing: here */
  constructor(command: readonly [string, ...string[]], namespace?: Namespace) {
    const [program, ...args] = namespace?.tied(command) ?? command;
    this.#process = new Deno.Command(program, {
      args,
      stdin: "piped",
      stdout: "piped",
    }).spawn();
    this.#writer = this.#process.stdin.getWriter();
    this.#reader = this.#process.stdout
      .pipeThrough(new TextDecoderStream()).getReader();
  }

  async ask(question: Question): Promise<Answer> {
    const line = `${JSON.stringify(question)}\n`;
    await this.#writer.write(new TextEncoder().encode(line));
    while (!this.#text.includes("\n")) {
      const { value } = await this.#reader.read();
      if (value === undefined) throw new Error("Nobody answers: it has ended");
      this.#text += value;
    }
    const end = this.#text.indexOf("\n");
    const answer = JSON.parse(this.#text.slice(0, end)) as Answer;
    this.#text = this.#text.slice(end + 1);
    return answer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer.close();
    await this.#reader.cancel();
    await this.#process.status;
  }
}

/** The load generator. */
export class Generator extends Asked<Question, Counted> {
  /** @param namespace where its clients are; missing: here */
  constructor(namespace?: Namespace) {
    super(script("load/generator.ts"), namespace);
  }
}
