/**
 * What the kernel makes of the commands of one nftables table, for tests of
 * those who write them: elements by key, and whether somebody else was there.
 * It refuses what the kernel refuses.
 *
 * @module
 */
import {
  elementComment,
  hasProxyPorts,
  isInClusterIps,
  mapOf,
  type NftForm,
  proxyPortText,
} from "../../proxy/rules/nft_rules.ts";
import type { NftTable } from "../../proxy/rules/nft_text.ts";
import {
  type Redirection,
  redirectionKey,
} from "../../proxy/rules/redirection.ts";

/** `service-ips 10.96.0.1 . tcp . 80` → ` comment "a/b:c" : 20001`. */
type Elements = ReadonlyMap<string, string>;

export class FakeNftTable {
  #elements = new Map<string, string>();
  #exists = false;
  #isTampered = false;

  get elements(): Elements {
    return new Map([...this.#elements].sort());
  }

  get isTampered(): boolean {
    return this.#isTampered;
  }

  /** One transaction. */
  run(lines: readonly string[]): void {
    for (const line of lines) this.#command(line);
  }

  #command(line: string): void {
    const [, verb, kind, rest = ""] =
      /^(add|delete) (\w+) ip kube-portal ?(.*)$/.exec(line) ?? [];
    if (verb === undefined) throw new SyntaxError(line);
    if (kind === "table") {
      if (verb === "add") this.#exists = true;
      else {
        this.#elements.clear();
        this.#exists = this.#isTampered = false;
      }
    } else if (!this.#exists) throw new Error(`No such file: ${line}`);
    else if (kind === "element") this.#element(verb, rest);
  }

  #element(verb: string, text: string): void {
    const [, set, address = "", value = ""] =
      /^(\S+) \{ (\S+(?: \. \S+(?: \. \d+)?)?)(.*) \}$/.exec(text) ?? [];
    const key = `${set} ${address}`;
    const known = this.#elements.get(key);
    if (verb === "delete") {
      if (known === undefined) throw new Error(`No such file: ${text}`);
      this.#elements.delete(key);
      return;
    }
    const port = (of: string) => / : \d+$/.exec(of)?.[0];
    if (known !== undefined && port(known) !== port(value)) {
      throw new Error(`File exists: ${text}`);
    }
    this.#elements.set(key, known ?? value);
  }

  /** Somebody adds a rule to it, if there is one. */
  tamper(): void {
    this.#isTampered = this.#exists;
  }

  /** As it would be listed; `undefined` if there is none. */
  read(frame: string): NftTable | undefined {
    if (!this.#exists) return undefined;
    const redirections = new Map<string, Redirection>();
    const proxyPorts = new Set<string>();
    const clusterIps = new Set<string>();
    for (const [key, value] of this.#elements) {
      const [set = "", ...words] = key.split(" ");
      if (set === "proxy-ports") {
        proxyPorts.add(words.join(" "));
        continue;
      }
      if (set === "cluster-ips") {
        clusterIps.add(words.join(" "));
        continue;
      }
      const [ip = "", , protocol = "", , port] = words;
      const [, name = "", proxyPort] = / comment "(.*)" : (\d+)$/.exec(value) ??
        [];
      const redirection: Redirection = {
        ip,
        port: Number(port),
        protocol: protocol === "tcp" ? "TCP" : "UDP",
        isNodePort: set === "node-ports",
        name,
        proxyPort: Number(proxyPort),
      };
      redirections.set(redirectionKey(redirection), redirection);
    }
    return {
      frame: this.#isTampered ? "tampered" : frame,
      redirections,
      proxyPorts,
      clusterIps,
      hasStrangers: false,
    };
  }

  /** What the table of these redirections holds. */
  static elementsOf(
    form: NftForm,
    redirections: ReadonlyMap<string, Redirection>,
  ): Elements {
    const elements = new Map<string, string>();
    for (const each of redirections.values()) {
      const { ip, protocol, port, name, proxyPort } = each;
      const key = `${ip} . ${protocol.toLowerCase()} . ${port}`;
      const value = ` comment "${elementComment(name)}" : ${proxyPort}`;
      elements.set(`${mapOf(each)} ${key}`, value);
      if (hasProxyPorts(form)) {
        elements.set(`proxy-ports ${proxyPortText(each)}`, "");
      }
      if (isInClusterIps(form, each)) elements.set(`cluster-ips ${ip}`, "");
    }
    return new Map([...elements].sort());
  }
}
