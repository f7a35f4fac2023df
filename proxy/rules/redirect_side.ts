/**
 * One IP family of `redirect`: the rules that are in the kernel, the address
 * they lead to, and what the kernel did not take. Told what is wanted, it
 * writes the difference.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { IpFamily } from "../ip.ts";
import { SteeringError } from "../steering.ts";
import { CommandError, type CommandRunner } from "./command.ts";
import { forgetUdpFlows } from "./conntrack.ts";
import { ensureTarget, removeTarget } from "./redirect_target.ts";
import {
  isSameRedirection,
  REDIRECT_TARGETS,
  type Redirection,
  redirectionKey,
} from "./redirection.ts";
import type { RulesChange, RulesWriter } from "./rules_writer.ts";

const logger = getLogger("rules");

export class RedirectSide {
  readonly #writer: RulesWriter;
  readonly #runner: CommandRunner;
  #target: string | undefined;
  /** It was not there before `start`. */
  #isTargetNew = false;
  #installed = new Map<string, Redirection>();
  /** By key: what the kernel did not take, until `repair`. */
  readonly #failures = new Map<string, SteeringError>();
  /** What an earlier run left and nobody wants is not removed yet. */
  #isUnswept = true;
  #canForgetFlows = true;

  constructor(writer: RulesWriter, runner: CommandRunner) {
    this.#writer = writer;
    this.#runner = runner;
  }

  get family(): IpFamily {
    return this.#writer.family;
  }

  get description(): string {
    const target = this.#target ?? "the address that they came in by";
    return `${this.#writer.description} to ${target}`;
  }

  /** Keys of the redirections that are in the kernel. */
  get installed(): Iterable<string> {
    return this.#installed.keys();
  }

  /** Where listeners bind: only what was redirected comes to them there. */
  get listenIp(): string {
    return this.#target ?? (this.family === "IPv4" ? "0.0.0.0" : "::");
  }

  failure(key: string): SteeringError | undefined {
    return this.#failures.get(key);
  }

  /**
   * Looks what can be done here, and what is there.
   *
   * @returns the proxy ports that rules of an earlier run lead to, by key
   * @throws {SteeringError} if no rule can be loaded; then nothing was changed
   */
  async start(signal: AbortSignal): Promise<ReadonlyMap<string, number>> {
    const { canChooseAddress } = await this.#writer.probe(signal);
    this.#target = canChooseAddress ? await this.#addTarget(signal) : undefined;
    try {
      await this.#writer.use(this.#target, signal);
      const { redirections, ports } = await this.#writer.read(signal);
      this.#installed = new Map(redirections);
      return ports;
    } catch (error) {
      await this.#takeBackTarget(signal);
      throw error;
    }
  }

  /** A start that fails leaves nothing that was not there before. */
  async #takeBackTarget(signal: AbortSignal): Promise<void> {
    if (!this.#isTargetNew) return;
    try {
      await removeTarget(this.family, { runner: this.#runner, signal });
    } catch (error) {
      // What began this is the one to tell; the next cleanup finds it.
      if (!(error instanceof SteeringError) && !signal.aborted) throw error;
    }
  }

  /** Without it TCP works as well, and UDP for all but the node itself. */
  async #addTarget(signal: AbortSignal): Promise<string | undefined> {
    try {
      const options = { runner: this.#runner, signal };
      this.#isTargetNew = await ensureTarget(this.family, options) > 0;
      return REDIRECT_TARGETS[this.family];
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      logger.warn(
        "Proxy ports have no address of their own; UDP clients on the node itself may get no replies",
        { reason: error.message },
      );
      return undefined;
    }
  }

  /**
   * Puts the address back that packets are sent to.
   *
   * @returns how many were put back
   */
  async restoreTarget(signal: AbortSignal): Promise<number> {
    if (this.#target === undefined) return 0;
    try {
      return await ensureTarget(this.family, { runner: this.#runner, signal });
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      logger.warn("Cannot put back the address of proxy ports", {
        reason: error.message,
      });
      return 0;
    }
  }

  /** Looks at the kernel again, so that `write` puts back what is missing. */
  async look(signal: AbortSignal): Promise<void> {
    try {
      const { redirections } = await this.#writer.read(signal);
      this.#installed = new Map(redirections);
      this.#isUnswept = true;
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      logger.warn("Cannot look at the rules; trying again later", {
        reason: error.message,
      });
    }
  }

  /**
   * Makes the rules of these keys what they should be. What the kernel does not
   * take is a `failure` afterwards.
   *
   * @param wanted all of this family: what is not there is not wanted
   * @returns how many rules were written
   */
  async write(
    keys: Iterable<string>,
    wanted: (key: string) => Redirection | undefined,
    signal: AbortSignal,
  ): Promise<number> {
    const change = this.#difference(keys, wanted);
    const { add, remove } = change;
    if (add.length + remove.length === 0 && !this.#isUnswept) return 0;
    try {
      const { written, refused } = await this.#writer.apply(change, signal);
      this.#isUnswept = false;
      for (const each of remove) this.#installed.delete(redirectionKey(each));
      for (const each of add) {
        const key = redirectionKey(each);
        const error = refused.get(key);
        if (error === undefined) this.#installed.set(key, each);
        else this.#failures.set(key, error);
      }
      await this.#forgetFlows(change, signal);
      return written;
    } catch (error) {
      if (!(error instanceof SteeringError)) throw error;
      for (const each of add) this.#failures.set(redirectionKey(each), error);
      if (add.length === 0) {
        logger.warn("Cannot remove rules; trying again later", {
          reason: error.message,
        });
      }
      return 0;
    }
  }

  #difference(
    keys: Iterable<string>,
    wanted: (key: string) => Redirection | undefined,
  ): RulesChange {
    const add: Redirection[] = [];
    const remove: Redirection[] = [];
    for (const key of keys) {
      const [is, should] = [this.#installed.get(key), wanted(key)];
      this.#failures.delete(key);
      if (is && should && isSameRedirection(is, should)) continue;
      if (is !== undefined) remove.push(is);
      if (should !== undefined) add.push(should);
    }
    return { add, remove };
  }

  /** Flows that began before go on to where the rule led then. */
  async #forgetFlows(
    { add, remove }: RulesChange,
    signal: AbortSignal,
  ): Promise<void> {
    const udp = [...add, ...remove].filter(({ protocol }) =>
      protocol === "UDP"
    );
    if (udp.length === 0 || !this.#canForgetFlows) return;
    const { family } = this;
    try {
      const runner = this.#runner;
      const count = await forgetUdpFlows(udp, { family, runner, signal });
      if (count > 0) logger.debug("Forgot UDP flows", { family, count });
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      this.#canForgetFlows = false;
      logger.warn(
        "Cannot make the kernel forget UDP flows; they go where they went, until they pause",
        { reason: error.message },
      );
    }
  }
}
