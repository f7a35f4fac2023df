/**
 * A machine on which `ip` makes portals: network namespaces by name, one veth
 * pair and routes, beside what `FakeIp` has. It knows the commands that
 * `portal_namespace.ts` gives (`test/netns/` runs them for real).
 *
 * @module
 */
import {
  CommandError,
  type CommandOptions,
  type CommandRunner,
} from "../../proxy/rules/command.ts";
import { FakeIp } from "./fake_ip.ts";

const NODE_MAC = "02:6b:70:00:00:01";
const PORTAL_MAC = "02:6b:70:00:00:02";

export class FakePortal implements CommandRunner {
  readonly ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  readonly namespaces = new Set<string>();
  hasPair = false;
  /** CIDRs that lead to the namespace, and those that are local in it. */
  readonly routed = new Set<string>();
  readonly local = new Set<string>();
  /** How often something was asked to change. */
  changes = 0;
  /** `false`: as without CAP_SYS_ADMIN. */
  privileged = true;

  async run(
    command: readonly [string, ...string[]],
    options: CommandOptions,
  ): Promise<string> {
    const [program, ...args] = command;
    const line = args.filter((arg) => arg !== "-N" && arg !== "-json")
      .join(" ");
    const answer = program === "ip" ? this.#answer(line, options.stdin) : "";
    if (answer === undefined) return await this.ip.run(command, options);
    if (answer === FAILED) {
      const stderr = "mount --make-shared /run/netns failed: " +
        "Operation not permitted\n";
      throw new CommandError(`Cannot run "ip ${line}"`, {
        command,
        exitCode: 1,
        stderr,
      });
    }
    return answer;
  }

  /** `undefined`: no business of a portal. */
  #answer(line: string, stdin = ""): string | undefined {
    const isV6 = / -6 |^-6 /.test(` ${line} `);
    const routes = (cidrs: Iterable<string>) =>
      JSON.stringify(
        [...cidrs].filter((cidr) => cidr.includes(":") === isV6)
          .map((dst) => ({ dst: dst.replace(/\/(32|128)$/, "") })),
      );
    const link = (mac: string) =>
      this.hasPair ? JSON.stringify([{ address: mac }]) : "";
    if (line === "netns list") return [...this.namespaces, ""].join("\n");
    if (line === "link show dev kube-portal0") return link(NODE_MAC);
    if (line === "-n kube-portal link show dev portal0") {
      return link(PORTAL_MAC);
    }
    if (line.includes("route show dev kube-portal0")) {
      return routes(this.routed);
    }
    if (line.includes("route show table local")) return routes(this.local);
    if (/^(netns|link) /.test(line)) return this.#change(line);
    if (line.includes("-batch")) {
      for (const each of stdin.trim().split("\n")) this.#batch(each);
      return "";
    }
    return undefined;
  }

  #change(line: string): string {
    if (!this.privileged) return FAILED;
    this.changes++;
    if (line === "netns add kube-portal") this.namespaces.add("kube-portal");
    if (line === "netns del kube-portal") {
      this.namespaces.delete("kube-portal");
      this.local.clear();
    }
    if (line.startsWith("link add")) this.hasPair = true;
    if (line.startsWith("link del")) {
      this.hasPair = false;
      this.routed.clear();
    }
    return "";
  }

  #batch(line: string): void {
    const [, verb, local, inside] =
      /^route (replace|del) (local )?([0-9a-f.:]+\/\d+) .*proto 107$/
        .exec(line) ?? [];
    if (verb === undefined || inside === undefined) return;
    this.changes++;
    const cidrs = local === undefined ? this.routed : this.local;
    if (verb === "del") cidrs.delete(inside);
    else cidrs.add(inside);
  }
}

const FAILED = "failed";
