/**
 * Redirections as elements of kernel sets: what is in our sets, as far as we
 * know, and which lines for `ipset restore` make a change of it. TCP addresses
 * that have a listener, those that have none, and every cluster IP are in a set
 * each; a handful of rules asks them, however many there are. Pure.
 *
 * @module
 */
import { canonicalIp, type IpFamily } from "../ip.ts";
import type { SetNames } from "./iptables_rules.ts";
import { type Redirection, redirectionKey } from "./redirection.ts";
import type { RulesChange } from "./rules_writer.ts";

/** Our sets, of both families; the mark is their names. */
const OWN_SETS =
  /^KUBE-(PORTALS-(OPEN|CLOSED|IPS|PROBE)|NODEPORT-(OPEN|CLOSED))6?$/;

/** The kernel's default is 65,536, which two ports of many Services fill. */
const SET_SIZE = 1_048_576;

/** Sets of the two families need names of their own. */
function setNames(family: IpFamily): SetNames {
  const suffix = family === "IPv4" ? "" : "6";
  return {
    services: {
      open: `KUBE-PORTALS-OPEN${suffix}`,
      closed: `KUBE-PORTALS-CLOSED${suffix}`,
    },
    nodePorts: {
      open: `KUBE-NODEPORT-OPEN${suffix}`,
      closed: `KUBE-NODEPORT-CLOSED${suffix}`,
    },
    clusterIps: `KUBE-PORTALS-IPS${suffix}`,
  };
}

/** Exists for a moment, while rules are tried out. */
export function probeSetName(family: IpFamily): string {
  return family === "IPv4" ? "KUBE-PORTALS-PROBE" : "KUBE-PORTALS-PROBE6";
}

/** Those of `ipset list -n` that are ours; of one family, if it is given. */
export function ownSetsIn(list: string, family?: IpFamily): string[] {
  return list.split("\n").filter((name) =>
    OWN_SETS.test(name) &&
    (family === undefined || name.endsWith("6") === (family === "IPv6"))
  );
}

/** The line that makes a set. */
export function createLine(
  name: string,
  { family, type }: { family: IpFamily; type: SetType },
): string {
  const inet = family === "IPv4" ? "inet" : "inet6";
  return `create ${name} ${type} family ${inet} maxelem ${SET_SIZE} comment`;
}

export type SetType = "hash:ip" | "hash:ip,port";

/** A line of `ipset restore`. */
export interface SetLine {
  readonly text: string;
  /** The `redirectionKey` that it is about. */
  readonly key?: string;
}

/** What has to be done before rules ask the sets, and what after. */
export interface SetPlan {
  readonly before: readonly SetLine[];
  readonly after: readonly SetLine[];
}

interface Element {
  readonly set: string;
  /** `10.96.0.7,tcp:80`, or an address. */
  readonly entry: string;
  readonly comment: string;
}

/** The sets of one family, before and after each change. */
export class IpsetState {
  readonly #family: IpFamily;
  readonly #names: SetNames;
  readonly #closedPort: number;
  /** Sets that are there and are made as we would; the others are not. */
  #sets: ReadonlySet<string> = new Set();
  #wrongSets: readonly string[] = [];
  /** `set entry` → comment, in the kernel. */
  readonly #elements = new Map<string, string>();
  readonly #installed = new Map<string, Redirection>();
  /** `set entry` → how many redirections need it: a cluster IP has ports. */
  readonly #uses = new Map<string, number>();

  constructor(
    { family, closedPort }: { family: IpFamily; closedPort: number },
  ) {
    this.#family = family;
    this.#names = setNames(family);
    this.#closedPort = closedPort;
  }

  get names(): SetNames {
    return this.#names;
  }

  /** By `redirectionKey`. */
  get installed(): ReadonlyMap<string, Redirection> {
    return this.#installed;
  }

  /**
   * Takes what `ipset save` printed of our sets.
   *
   * @param others.sharedPort where rules lead what is in a set of open ones;
   *   `undefined`: nowhere
   * @param others.udp redirections that have a rule each
   */
  take(
    text: string,
    { sharedPort, udp }: {
      sharedPort: number | undefined;
      udp: ReadonlyMap<string, Redirection>;
    },
  ): void {
    const sets = new Set<string>();
    const wrong = new Set<string>();
    this.#elements.clear();
    this.#installed.clear();
    this.#uses.clear();
    for (const line of text.split("\n")) {
      const [, verb, set = "", rest = ""] = /^(create|add) (\S+) (.*)$/
        .exec(line) ?? [];
      if (verb === "create") {
        (this.#isRight(set, rest) ? sets : wrong).add(set);
      } else if (verb === "add" && !wrong.has(set)) {
        const [, entry = "", comment = ""] =
          /^(\S+)(?:.* comment "([^"]*)")?/.exec(rest) ?? [];
        this.#elements.set(`${set} ${entry}`, comment);
      }
    }
    this.#sets = sets;
    this.#wrongSets = [...wrong];
    for (const redirection of this.#parse({ sharedPort, udp })) {
      this.#add(redirection);
    }
  }

  *#parse({ sharedPort, udp }: {
    sharedPort: number | undefined;
    udp: ReadonlyMap<string, Redirection>;
  }): Iterable<Redirection> {
    const { services, nodePorts, clusterIps } = this.#names;
    const kinds = new Map([
      [services.open, { isNodePort: false, proxyPort: sharedPort }],
      [services.closed, { isNodePort: false, proxyPort: this.#closedPort }],
      [nodePorts.open, { isNodePort: true, proxyPort: sharedPort }],
      [nodePorts.closed, { isNodePort: true, proxyPort: this.#closedPort }],
    ]);
    for (const [id, name] of this.#elements) {
      const [set = "", entry = ""] = id.split(" ");
      const { isNodePort, proxyPort } = kinds.get(set) ?? {};
      const [, address = "", port] = /^(.*),tcp:(\d+)$/.exec(entry) ?? [];
      const ip = canonicalIp(address);
      // Without its rule an element leads nowhere.
      if (isNodePort === undefined || sharedPort === undefined) continue;
      if (ip === undefined || proxyPort === undefined) continue;
      const isClusterIp = this.#elements.has(`${clusterIps} ${ip}`);
      const base = { ip, port: Number(port), protocol: "TCP" } as const;
      yield { ...base, isNodePort, isClusterIp, name, proxyPort };
    }
    for (const each of udp.values()) {
      const isClusterIp = this.#elements.has(`${clusterIps} ${each.ip}`);
      const redirection = { ...each, isClusterIp };
      const elements = this.#elementsOf(redirection);
      const isThere = elements.every(({ set, entry }) =>
        this.#elements.has(`${set} ${entry}`)
      );
      if (isThere) yield redirection;
    }
  }

  /** Whether a set is one that `createLine` makes. */
  #isRight(name: string, rest: string): boolean {
    const [, , ...options] = createLine(name, {
      family: this.#family,
      type: this.#typeOf(name),
    }).split(" ");
    const has = ` ${rest} `;
    return has.startsWith(` ${options[0]} family ${options[2]} `) &&
      has.includes(` maxelem ${SET_SIZE} `) && has.includes(" comment ");
  }

  #typeOf(name: string): SetType {
    return name === this.#names.clusterIps ? "hash:ip" : "hash:ip,port";
  }

  get #allNames(): string[] {
    const { services, nodePorts, clusterIps } = this.#names;
    return [...Object.values(services), ...Object.values(nodePorts), clusterIps]
      .map(String);
  }

  #elementsOf(redirection: Redirection): Element[] {
    const { ip, port, protocol, isNodePort, isClusterIp, name, proxyPort } =
      redirection;
    const { services, nodePorts, clusterIps } = this.#names;
    const sets = isNodePort ? nodePorts : services;
    const elements: Element[] = [];
    const entry = `${ip},${protocol.toLowerCase()}:${port}`;
    // The kernel keeps 255 bytes; names of files' objects nobody has checked.
    const comment = name.replaceAll(/[^\w ./:,@+-]/g, "?").slice(0, 255);
    if (protocol === "TCP") {
      const isClosed = proxyPort === this.#closedPort;
      const set = isClosed ? sets.closed : sets.open;
      elements.push({ set, entry, comment });
    } else if (!isNodePort) {
      // It has a rule of its own; being here keeps it from being refused as
      // "any other port".
      elements.push({ set: services.open, entry, comment });
    }
    if (isClusterIp) {
      elements.push({ set: clusterIps, entry: ip, comment: "" });
    }
    return elements;
  }

  /** The lines for a change; none, if it is none. */
  plan({ add, remove }: RulesChange): SetPlan {
    const isNeeded = this.#installed.size + add.length > 0;
    const uses = new Map<string, number>();
    const wanted = new Map<string, Element & { key: string }>();
    const count = (redirection: Redirection, by: 1 | -1) => {
      for (const element of this.#elementsOf(redirection)) {
        const id = `${element.set} ${element.entry}`;
        uses.set(id, (uses.get(id) ?? this.#uses.get(id) ?? 0) + by);
        if (by === -1) continue;
        wanted.set(id, { ...element, key: redirectionKey(redirection) });
      }
    };
    const keys = new Set([...remove, ...add].map(redirectionKey));
    for (const key of keys) {
      const installed = this.#installed.get(key);
      if (installed !== undefined) count(installed, -1);
    }
    for (const each of add) count(each, 1);
    const family = this.#family;
    const before: SetLine[] = [
      ...this.#wrongSets.map((name) => ({ text: `destroy ${name}` })),
      ...(isNeeded ? this.#allNames : [])
        .filter((name) => !this.#sets.has(name))
        .map((name) => ({
          text: createLine(name, { family, type: this.#typeOf(name) }),
        })),
    ];
    for (const [id, { key, comment }] of wanted) {
      if (this.#elements.get(id) === comment) continue;
      const more = comment === "" ? "" : ` comment "${comment}"`;
      before.push({ text: `add ${id}${more}`, key });
    }
    const gone = [...this.#elements.keys()].filter((id) =>
      (uses.get(id) ?? this.#uses.get(id) ?? 0) <= 0
    );
    return { before, after: gone.map((id) => ({ text: `del ${id}` })) };
  }

  /** The kernel has taken a change. */
  note({ add, remove }: RulesChange): void {
    for (const each of [...remove, ...add]) {
      const before = this.#installed.get(redirectionKey(each));
      if (before !== undefined) this.#remove(before);
    }
    for (const each of add) {
      this.#add(each);
      for (const { set, entry, comment } of this.#elementsOf(each)) {
        this.#elements.set(`${set} ${entry}`, comment);
      }
    }
    for (const id of this.#elements.keys()) {
      if (!this.#uses.has(id)) this.#elements.delete(id);
    }
    if (this.#installed.size > 0) this.#sets = new Set(this.#allNames);
    this.#wrongSets = [];
  }

  #add(redirection: Redirection): void {
    this.#installed.set(redirectionKey(redirection), redirection);
    for (const { set, entry } of this.#elementsOf(redirection)) {
      const id = `${set} ${entry}`;
      this.#uses.set(id, (this.#uses.get(id) ?? 0) + 1);
    }
  }

  #remove(redirection: Redirection): void {
    this.#installed.delete(redirectionKey(redirection));
    for (const { set, entry } of this.#elementsOf(redirection)) {
      const id = `${set} ${entry}`;
      const rest = (this.#uses.get(id) ?? 0) - 1;
      if (rest > 0) this.#uses.set(id, rest);
      else this.#uses.delete(id);
    }
  }
}
