/**
 * Clients that must not notice anything: connections that stay open and are
 * used all the time, and new ones, one after the other. Whatever they ask comes
 * from an echo server.
 *
 * @module
 */
import { connect, hear, say } from "./loopback.ts";

const ESTABLISHED = 4;
const PAUSE_MS = 10;

export interface TrafficReport {
  /** Questions that established connections were answered. */
  readonly answered: number;
  /** New connections that were made, and answered. */
  readonly connected: number;
  /** What went wrong, in words; empty if nothing did. */
  readonly failures: readonly string[];
  /** The longest that any of them waited, milliseconds. */
  readonly slowestMs: number;
}

export class Traffic {
  readonly #ip: string;
  readonly #port: number;
  readonly #running: Promise<unknown>;
  readonly #failures: string[] = [];
  #answered = 0;
  #connected = 0;
  #slowestMs = 0;
  #isEnding = false;

  /** Begins at once. */
  constructor(ip: string, port: number) {
    this.#ip = ip;
    this.#port = port;
    this.#running = Promise.all([
      ...Array.from({ length: ESTABLISHED }, () => this.#stay()),
      this.#comeAndGo(),
    ]);
  }

  get answered(): number {
    return this.#answered;
  }

  get connected(): number {
    return this.#connected;
  }

  /** Ends it, and says how it was. */
  async end(): Promise<TrafficReport> {
    this.#isEnding = true;
    await this.#running;
    return {
      answered: this.#answered,
      connected: this.#connected,
      failures: this.#failures,
      slowestMs: this.#slowestMs,
    };
  }

  async #stay(): Promise<void> {
    try {
      using connection = await connect(this.#ip, this.#port);
      for (let n = 0; !this.#isEnding; n++) {
        await this.#ask(connection, `established ${n}`);
        this.#answered++;
        await pause();
      }
    } catch (error) {
      this.#failures.push(`An established connection: ${error}`);
    }
  }

  async #comeAndGo(): Promise<void> {
    for (let n = 0; !this.#isEnding; n++) {
      try {
        using connection = await connect(this.#ip, this.#port);
        await this.#ask(connection, `new ${n}`);
        this.#connected++;
      } catch (error) {
        this.#failures.push(`New connection ${n}: ${error}`);
      }
      await pause();
    }
  }

  async #ask(connection: Deno.Conn, text: string): Promise<void> {
    const began = performance.now();
    await say(connection, text);
    const answer = await hear(connection);
    if (answer !== text) throw new Error(`"${text}" came back as "${answer}"`);
    this.#slowestMs = Math.max(this.#slowestMs, performance.now() - began);
  }
}

function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}
