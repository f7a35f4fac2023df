/**
 * ClusterIPs, node ports and health check ports: which are taken, by whom, and
 * the next free one. It follows the Services as they are written, and fills in
 * what a Service asks for by leaving it out (pkg/registry/core/service/storage
 * and its ipallocator and portallocator).
 *
 * @module
 */
import {
  AddressRange,
  canonicalAddress,
  type Family,
  familyOf,
} from "./addresses.ts";
import {
  type KubeObject,
  record,
  records,
  storeKey,
  text,
  texts,
} from "./resource.ts";
import { needsHealthCheckPort } from "./service_access.ts";
import { type FieldError, fieldError } from "./status.ts";

const { invalid, forbidden, notSupported } = fieldError;

export interface PortRange {
  readonly first: number;
  readonly last: number;
}

export class ServiceAddresses {
  /** Of each family at most one; the first is the cluster's own family. */
  readonly #ranges: readonly AddressRange[];
  readonly #nodePorts: PortRange;
  /** address, or port, to the key of the Service that has it */
  readonly #takenIPs = new Map<string, string>();
  readonly #takenPorts = new Map<number, string>();
  readonly #nextIP = new Map<Family, bigint>();
  #nextPort: number;

  /**
   * @throws {RangeError} a CIDR that is none or too small, or two of a family
   */
  constructor(cidrs: readonly string[], nodePorts: PortRange) {
    this.#ranges = cidrs.map((cidr) => new AddressRange(cidr));
    const families = new Set(this.#ranges.map((range) => range.family));
    if (cidrs.length === 0 || families.size !== cidrs.length) {
      throw new RangeError(
        `Cannot use Service CIDRs "${
          cidrs.join(",")
        }": one, or one of each IP family, is needed`,
      );
    }
    this.#nodePorts = nodePorts;
    this.#nextPort = nodePorts.first;
    this.reset();
  }

  /** Forgets what is taken: the Services themselves were replaced. */
  reset(services: readonly KubeObject[] = []): void {
    this.#takenIPs.clear();
    this.#takenPorts.clear();
    for (const range of this.#ranges) {
      this.#nextIP.set(range.family, firstDynamic(range));
    }
    for (const service of services) this.written(undefined, service);
  }

  /** The address of the Service `default/kubernetes`. */
  get firstAddress(): string {
    return this.#ranges[0]!.at(0n);
  }

  /** Decides the IP families, as far as the Service leaves it to the cluster. */
  setFamilies(service: KubeObject, previous: KubeObject | undefined): void {
    const spec = record(service.spec);
    if (spec.type === "ExternalName") return;
    this.#normaliseIPs(spec, record(previous?.spec));
    const given = texts(spec.clusterIPs).map(familyOf)
      .filter((family) => family !== undefined);
    const families = texts(spec.ipFamilies);
    const available = this.#ranges.map((range) => range.family);
    const headless = spec.clusterIP === "None";
    const ownEndpoints = Object.keys(record(spec.selector)).length === 0;
    if (headless && ownEndpoints && spec.ipFamilyPolicy === undefined) {
      // Who brings the endpoints may bring both families.
      spec.ipFamilyPolicy = families.length === 1
        ? "SingleStack"
        : "RequireDualStack";
      if (families.length === 0) {
        const [first = "IPv4"] = available;
        families.push(first, first === "IPv4" ? "IPv6" : "IPv4");
      }
    }
    spec.ipFamilyPolicy ??= families.length === 2 || given.length === 2
      ? "RequireDualStack"
      : "SingleStack";
    if (families.length === 0) families.push(given[0] ?? available[0]!);
    const second = families[0] === "IPv4" ? "IPv6" : "IPv4";
    if (spec.ipFamilyPolicy === "SingleStack") {
      const before = record(previous?.spec).ipFamilyPolicy;
      // Going back from dual-stack gives up the second address.
      if (before !== undefined && before !== "SingleStack") {
        families.length = 1;
        if (!headless) spec.clusterIPs = texts(spec.clusterIPs).slice(0, 1);
      }
    } else if (families.length === 1 && available.includes(second)) {
      families.push(second);
    }
    spec.ipFamilies = families;
  }

  /** `clusterIP` is another way to say `clusterIPs[0]`. */
  #normaliseIPs(
    spec: Record<string, unknown>,
    before: Record<string, unknown>,
  ): void {
    if (spec.clusterIP === "") delete spec.clusterIP;
    const ips = texts(spec.clusterIPs);
    const ip = spec.clusterIP;
    if (ip !== undefined) {
      const changed = ip !== before.clusterIP &&
        ips[0] === before.clusterIP && ips[0] !== undefined;
      if (ips.length === 0 || changed) spec.clusterIPs = [ip];
    } else if (ips[0] !== undefined && ips[0] !== "") {
      spec.clusterIP = ips[0];
    }
  }

  /** Fills in addresses and ports; nothing is taken before `written`. */
  allocate(
    service: KubeObject,
    previous: KubeObject | undefined,
  ): FieldError[] {
    const key = storeKey(service.metadata);
    const spec = record(service.spec);
    if (spec.type === "ExternalName") return [];
    const errors = this.#familyErrors(spec);
    if (errors.length > 0) return errors;
    if (spec.clusterIP === "None") return [];
    return [
      ...this.#allocateIPs(spec, key),
      ...this.#allocatePorts(spec, key, record(previous?.spec)),
    ];
  }

  #familyErrors(spec: Record<string, unknown>): FieldError[] {
    const available = this.#ranges.map((range) => range.family);
    const policies = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    const policy = text(spec.ipFamilyPolicy);
    if (!policies.includes(policy)) {
      return [notSupported("spec.ipFamilyPolicy", policy, policies)];
    }
    const free = spec.clusterIP === "None" &&
      Object.keys(record(spec.selector)).length === 0;
    if (free) return [];
    const errors: FieldError[] = [];
    if (policy === "RequireDualStack" && available.length < 2) {
      const why = "this cluster is not configured for dual-stack services";
      errors.push(invalid("spec.ipFamilyPolicy", policy, why));
    }
    for (const [index, family] of texts(spec.ipFamilies).entries()) {
      const field = `spec.ipFamilies[${index}]`;
      if (family !== "IPv4" && family !== "IPv6") {
        errors.push(notSupported(field, family, ["IPv4", "IPv6"]));
      } else if (!available.includes(family)) {
        const why = "not configured on this cluster";
        errors.push(invalid(field, family, why));
      }
    }
    return errors;
  }

  #allocateIPs(spec: Record<string, unknown>, key: string): FieldError[] {
    const ips = texts(spec.clusterIPs);
    const result: string[] = [];
    for (const [index, family] of texts(spec.ipFamilies).entries()) {
      const range = this.#ranges.find((range) => range.family === family)!;
      const ip = ips[index];
      if (ip === undefined || ip === "") {
        const next = this.#freeIP(range);
        if (next === undefined) {
          const why = "failed to allocate a serviceIP: range is full";
          return [invalid("spec.clusterIPs", ips, why)];
        }
        result.push(next);
        continue;
      }
      if (familyOf(ip) !== family) {
        const why =
          `expected an ${family} value as indicated by \`ipFamilies[${index}]\``;
        return [invalid(`spec.clusterIPs[${index}]`, ip, why)];
      }
      const canonical = canonicalAddress(ip);
      const problem = this.#cannotHave(canonical, range, key);
      if (problem !== undefined) {
        const why = `failed to allocate IP ${ip}: ${problem}`;
        return [invalid("spec.clusterIPs", ips, why)];
      }
      result.push(canonical);
    }
    spec.clusterIPs = result;
    spec.clusterIP = result[0];
    return [];
  }

  #cannotHave(ip: string, range: AddressRange, key: string) {
    const owner = this.#takenIPs.get(ip);
    if (owner === key) return undefined;
    if (!range.contains(ip)) {
      return `the provided IP (${ip}) is not in the valid range. The range of valid IPs is ${range.cidr}`;
    }
    return owner === undefined ? undefined : "provided IP is already allocated";
  }

  /** In turn, so that a deleted Service's address is not used again at once. */
  #freeIP(range: AddressRange): string | undefined {
    const first = this.#nextIP.get(range.family)!;
    for (let step = 0n; step < range.count; step++) {
      const index = (first + step) % range.count;
      const ip = range.at(index);
      if (this.#takenIPs.has(ip)) continue;
      this.#nextIP.set(range.family, (index + 1n) % range.count);
      return ip;
    }
    return undefined;
  }

  #allocatePorts(
    spec: Record<string, unknown>,
    key: string,
    before: Record<string, unknown>,
  ): FieldError[] {
    const errors: FieldError[] = [];
    const ports = records(spec.ports);
    const mine = new Set<number>();
    for (const [index, { nodePort }] of ports.entries()) {
      if (typeof nodePort !== "number") continue;
      mine.add(nodePort);
      const problem = this.#cannotHavePort(nodePort, key);
      if (problem !== undefined) {
        errors.push(
          invalid(`spec.ports[${index}].nodePort`, nodePort, problem),
        );
      }
    }
    const wanted = spec.type === "NodePort" ||
      spec.type === "LoadBalancer" &&
        spec.allocateLoadBalancerNodePorts !== false;
    for (const port of wanted ? ports : []) {
      if (port.nodePort !== undefined) continue;
      // One number for the same port over TCP and UDP, as DNS wants it.
      const twin = ports.find((other) =>
        other !== port && other.port === port.port &&
        other.nodePort !== undefined && other.protocol !== port.protocol
      );
      const free = twin?.nodePort ?? this.#freePort(mine);
      if (typeof free !== "number") {
        errors.push(invalid("spec.ports", [], "range is full"));
        break;
      }
      mine.add(free);
      port.nodePort = free;
    }
    if (needsHealthCheckPort(spec)) {
      errors.push(...this.#allocateHealthPort(spec, key, mine, before));
    }
    return errors;
  }

  #allocateHealthPort(
    spec: Record<string, unknown>,
    key: string,
    mine: ReadonlySet<number>,
    before: Record<string, unknown>,
  ): FieldError[] {
    const port = spec.healthCheckNodePort;
    if (port === undefined) {
      spec.healthCheckNodePort = this.#freePort(mine);
      return [];
    }
    if (typeof port !== "number" || port === before.healthCheckNodePort) {
      return [];
    }
    const problem = mine.has(port)
      ? "provided port is already allocated"
      : this.#cannotHavePort(port, key);
    return problem === undefined ? [] : [
      forbidden(
        "spec.healthCheckNodePort",
        `failed to allocate requested HealthCheck NodePort ${port}: ${problem}`,
      ),
    ];
  }

  #cannotHavePort(port: number, key: string): string | undefined {
    const owner = this.#takenPorts.get(port);
    if (owner === key) return undefined;
    const { first, last } = this.#nodePorts;
    if (port < first || port > last) {
      return `provided port is not in the valid range. The range of valid ports is ${first}-${last}`;
    }
    return owner === undefined
      ? undefined
      : "provided port is already allocated";
  }

  #freePort(mine: ReadonlySet<number>): number | undefined {
    const { first, last } = this.#nodePorts;
    const count = last - first + 1;
    for (let step = 0; step < count; step++) {
      const port = first + (this.#nextPort - first + step) % count;
      if (this.#takenPorts.has(port) || mine.has(port)) continue;
      this.#nextPort = port + 1;
      return port;
    }
    return undefined;
  }

  /** Follows a write: the old Service's are free again, the new one's taken. */
  written(previous: KubeObject | undefined, next: KubeObject | undefined) {
    if (previous !== undefined) {
      for (const ip of ipsOf(previous)) this.#takenIPs.delete(ip);
      for (const port of portsOf(previous)) this.#takenPorts.delete(port);
    }
    if (next !== undefined) {
      const key = storeKey(next.metadata);
      for (const ip of ipsOf(next)) this.#takenIPs.set(ip, key);
      for (const port of portsOf(next)) this.#takenPorts.set(port, key);
    }
  }
}

/**
 * The lowest addresses are left to Services that ask for one by number, so
 * that the server does not give it away first (KEP 3070).
 */
function firstDynamic(range: AddressRange): bigint {
  if (range.count < 16n) return 0n;
  const sixteenth = (range.count + 2n) / 16n;
  return sixteenth < 16n
    ? 16n - 1n
    : (sixteenth > 256n ? 256n : sixteenth) - 1n;
}

function ipsOf(service: KubeObject): string[] {
  return texts(record(service.spec).clusterIPs).filter((ip) => ip !== "None");
}

function portsOf(service: KubeObject): number[] {
  const spec = record(service.spec);
  return [
    ...records(spec.ports).map((port) => port.nodePort),
    spec.healthCheckNodePort,
  ]
    .filter((port) => typeof port === "number");
}
