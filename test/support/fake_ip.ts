/**
 * A kernel's routes and addresses as `ip` shows and changes them: enough of
 * iproute2 to hold `route` to its promises without a privilege. It refuses what
 * the kernel refuses, with the same words and exit codes (`test/netns/` runs
 * the same promises against the real one).
 *
 * @module
 */
import { cidrContains } from "../../proxy/ip.ts";
import {
  CommandError,
  type CommandOptions,
  type CommandRunner,
} from "../../proxy/rules/command.ts";

export interface FakeRoute {
  type: "1" | "2";
  dst: string;
  dev: string;
  protocol: string;
  gateway?: string;
}

export interface FakeAddress {
  dev: string;
  local: string;
  prefixlen: number;
  metric?: number;
}

export class FakeIp implements CommandRunner {
  /** Every command line, and the lines of its batch. */
  readonly commands: string[] = [];
  readonly routes: FakeRoute[] = [
    { type: "2", dst: "127.0.0.0/8", dev: "lo", protocol: "2" },
    { type: "2", dst: "127.0.0.1", dev: "lo", protocol: "2" },
    { type: "2", dst: "::1", dev: "lo", protocol: "2" },
  ];
  readonly addresses: FakeAddress[] = [
    { dev: "lo", local: "127.0.0.1", prefixlen: 8 },
    { dev: "lo", local: "::1", prefixlen: 128 },
  ];
  /** `false`: as without CAP_NET_ADMIN. */
  privileged = true;
  /** `false`: as with `disable_ipv6`. */
  ipv6 = true;
  /** Thrown by every run, as where there is no `ip`. */
  broken: CommandError | undefined;

  /** What was written: the batch lines, without reading. */
  get written(): string[] {
    return this.commands.filter((line) => !line.startsWith("ip "));
  }

  addNode(ip: string, gateway: string): this {
    this.addresses.push({ dev: "eth0", local: ip, prefixlen: 24 });
    this.routes.push(
      { type: "2", dst: ip, dev: "eth0", protocol: "2" },
      { type: "1", dst: "default", dev: "eth0", protocol: "3", gateway },
    );
    return this;
  }

  run(
    command: readonly [string, ...string[]],
    options: CommandOptions,
  ): Promise<string> {
    try {
      options.signal.throwIfAborted();
      if (this.broken !== undefined) throw this.broken;
      // A machine with nothing else.
      if (command[0] !== "ip") throw programMissing(command[0]);
      this.commands.push(command.join(" "));
      return Promise.resolve(this.#run(command, options.stdin));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #run(command: readonly string[], stdin: string | undefined): string {
    const line = command.slice(1).join(" ");
    switch (line) {
      case "-N -json addr show":
        return JSON.stringify(this.#links());
      case "-N -json -4 route show table all":
        return JSON.stringify(this.routes.filter((r) => !isIpv6(r)));
      case "-N -json -6 route show table all":
        return JSON.stringify(this.routes.filter(isIpv6));
      case "-N -json -4 route show table main":
        return JSON.stringify(
          this.routes.filter((r) => r.type === "1" && !isIpv6(r)),
        );
      // There is no portal, and never was.
      case "netns list":
      case "-N -json link show dev kube-portal0":
        return "";
      case "-4 -force -batch -":
      case "-6 -force -batch -":
        return this.#batch(command, stdin ?? "");
    }
    const get = /^-N -json -([46]) route get (.*)$/.exec(line);
    if (get !== null) return this.#routeTo(get[2] ?? "", command);
    const error = this.#change(command.slice(2));
    if (error !== undefined) throw failure(command, 2, error + "\n");
    return "";
  }

  /** What the kernel would take: what is local first, then the default. */
  #routeTo(ip: string, command: readonly string[]): string {
    const isTo = ({ dst }: FakeRoute) =>
      dst === ip || dst.includes("/") && cidrContains(dst, ip) ||
      dst === "default" && !ip.includes(":");
    const to = this.routes.filter(isTo);
    const [route] = [...to.filter((each) => each.type === "2"), ...to];
    if (route === undefined) {
      const stderr = "RTNETLINK answers: Network is unreachable\n";
      throw failure(command, 2, stderr);
    }
    // Of unicast it says nothing.
    const { type, dev } = route;
    return JSON.stringify([{
      ...type === "2" ? { type } : {},
      dst: ip,
      dev,
    }]);
  }

  #links() {
    return ["lo", "eth0"].map((ifname) => ({
      ifname,
      addr_info: this.addresses.filter((each) => each.dev === ifname),
    }));
  }

  #batch(command: readonly string[], stdin: string): string {
    let stderr = "";
    const lines = stdin.split("\n").filter((line) => line !== "");
    lines.forEach((line, index) => {
      this.commands.push(line);
      const error = this.#change(line.split(" "));
      if (error === undefined) return;
      stderr += `${error}\nCommand failed -:${index + 1}\n`;
    });
    if (stderr !== "") throw failure(command, 1, stderr);
    return "";
  }

  /** One `route add local CIDR dev lo proto N` or `addr add IP/128 dev lo …`. */
  #change(words: readonly string[]): string | undefined {
    if (!this.privileged) return "RTNETLINK answers: Operation not permitted";
    const [kind, verb] = words;
    return kind === "route"
      ? this.#changeRoute(verb ?? "", words)
      : this.#changeAddress(verb ?? "", words);
  }

  #changeRoute(verb: string, words: readonly string[]): string | undefined {
    const [, , type, target = "", , dev = "", , protocol = ""] = words;
    if (type !== "local") throw new Error(`Not a fake route: ${words}`);
    const dst = target.replace(/\/(32|128)$/, "");
    const same = this.routes.findIndex((route) =>
      route.type === "2" && route.dst === dst && route.dev === dev
    );
    if (verb === "add") {
      if (!this.ipv6 && dst.includes(":")) {
        return "RTNETLINK answers: Permission denied";
      }
      if (same !== -1) return "RTNETLINK answers: File exists";
      this.routes.push({ type: "2", dst, dev, protocol });
      return undefined;
    }
    if (same === -1 || this.routes[same]?.protocol !== protocol) {
      return "RTNETLINK answers: No such process";
    }
    this.routes.splice(same, 1);
    return undefined;
  }

  #changeAddress(verb: string, words: readonly string[]): string | undefined {
    const [, , target = "", , dev = "", , metric = ""] = words;
    const [local = "", prefix = ""] = target.split("/");
    // As the kernel: the metric does not matter for finding it.
    const same = this.addresses.findIndex((address) =>
      address.local === local && address.dev === dev
    );
    if (verb === "add") {
      if (!this.ipv6) return "RTNETLINK answers: Permission denied";
      if (same !== -1) return "Error: ipv6: address already assigned.";
      const prefixlen = Number(prefix);
      this.addresses.push({ dev, local, prefixlen, metric: Number(metric) });
      return undefined;
    }
    if (same === -1) return "Error: ipv6: address not found.";
    this.addresses.splice(same, 1);
    return undefined;
  }
}

/** The error of a machine without the program. */
export function programMissing(program: string): CommandError {
  return new CommandError(
    `Cannot run "${program}": no such program on the PATH`,
    { command: [program], cause: new Deno.errors.NotFound("gone") },
  );
}

function failure(
  command: readonly string[],
  exitCode: number,
  stderr: string,
): CommandError {
  return new CommandError(
    `Cannot run "${command.join(" ")}": ${stderr.split("\n")[0]}`,
    { command, exitCode, stderr },
  );
}

function isIpv6(route: FakeRoute): boolean {
  return route.dst.includes(":");
}
