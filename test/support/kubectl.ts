/**
 * Real kubectls: the one on the PATH, and an old one, which asks for other
 * things in other ways. Each has a home of its own, since kubectl caches what a
 * server said.
 *
 * @module
 */
import assert from "node:assert/strict";
import { findProgram, isExecutable, type Need } from "./needs.ts";

const TIMEOUT_MS = 60_000;

export interface KubectlProgram {
  /** For the names of tests. */
  readonly name: string;
  readonly path: string;
  readonly need: Need;
}

/** Debian's package kubernetes-client, unpacked by `dpkg -x`; .ci/run does so. */
const OLD = Deno.env.get("KUBECTL_OLD") ??
  new URL("../../.ci/out/kubectl-1.20/usr/bin/kubectl", import.meta.url)
    .pathname;

export const KUBECTLS: readonly KubectlProgram[] = [
  {
    name: "kubectl",
    path: findProgram("kubectl") ?? "",
    need: () => findProgram("kubectl") ? undefined : "no kubectl on the PATH",
  },
  {
    name: "kubectl 1.20",
    path: OLD,
    need: () => isExecutable(OLD) ? undefined : `no ${OLD}`,
  },
];

/** One kubectl for one server. */
export class Kubectl implements AsyncDisposable {
  readonly #program: string;
  readonly #server: string;
  readonly #home: string;

  constructor({ path }: KubectlProgram, server: string) {
    this.#program = path;
    this.#server = server;
    this.#home = Deno.makeTempDirSync({ prefix: "kubectl-" });
  }

  /**
   * Runs it, and says nothing but what it should.
   *
   * @returns its standard output
   */
  async run(...args: readonly string[]): Promise<string> {
    const { code, stdout, stderr } = await new Deno.Command(this.#program, {
      args: [`--server=${this.#server}`, ...args],
      cwd: this.#home,
      clearEnv: true,
      env: { HOME: this.#home, PATH: Deno.env.get("PATH") ?? "" },
      stdin: "null",
      signal: AbortSignal.timeout(TIMEOUT_MS),
    }).output();
    const decoder = new TextDecoder();
    const out = decoder.decode(stdout);
    const what = `kubectl ${args.join(" ")}`;
    assert.equal(code, 0, `${what}: ${out}${decoder.decode(stderr)}`);
    assert.equal(decoder.decode(stderr), "", `${what} is quiet`);
    return out;
  }

  /** `kubectl apply -f` of a file with this text. */
  async apply(text: string): Promise<string> {
    await Deno.writeTextFile(`${this.#home}/applied.yaml`, text);
    return await this.run("apply", "-f", "applied.yaml");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Deno.remove(this.#home, { recursive: true });
  }
}
