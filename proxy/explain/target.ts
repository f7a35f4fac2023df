/**
 * What `explain` is asked about: a Service, one of its ports, or an address.
 * In: a text, and the desired state. Out: addresses that a client can dial, and
 * whose they are. Pure.
 *
 * @module
 */
import type { DesiredState, ServicePortState } from "../desired_state.ts";
import { canonicalIp, formatHostPort, type IpFamily, ipFamily } from "../ip.ts";
import type { AddressKind } from "../steering.ts";

/** An address of a ServicePort that somebody connects to. */
export interface Target {
  readonly state: ServicePortState;
  readonly kind: AddressKind;
  readonly ip: string;
  readonly port: number;
}

/** Nothing serves what was asked about; one line says why. */
export class TargetError extends Error {
  override readonly name = "TargetError";
}

/**
 * - `default/web`: the ClusterIP of each of its ports.
 * - `default/web:http`, `default/web:80`: of that port.
 * - `10.96.0.10:80`, `[fd00::1]:80/UDP`: that address, whoever has it.
 * - `:30080`, `node:30080`: that port of the node.
 *
 * @param nodeIp the one that stands for the node
 * @param nodeIps addresses that NodePorts are on
 * @throws {TargetError} where nothing serves it
 */
export function targetsOf(
  text: string,
  { state, family, nodeIp, nodeIps }: {
    state: DesiredState;
    family: IpFamily;
    nodeIp: string;
    nodeIps: ReadonlySet<string>;
  },
): Target[] {
  const address = /^\[?([^\]/]*?)\]?:(\d+)(?:\/(tcp|udp|sctp))?$/i.exec(text);
  const host = address?.[1];
  const ip = host === undefined
    ? undefined
    : isNode(host, state)
    ? nodeIp
    : canonicalIp(host);
  const alone = canonicalIp(text.replaceAll(/^\[|\]$/g, ""));
  if (alone !== undefined) {
    throw new TargetError(
      `"${text}" is an address without a port: ${portsAt(alone, state)}`,
    );
  }
  return ip === undefined ? ofService(text, { state, family }) : ofAddress(ip, {
    port: Number(address?.[2]),
    protocol: address?.[3]?.toUpperCase(),
    state,
    nodeIps,
  });
}

/** Nothing, or the word, where no Service has that name. */
function isNode(host: string, state: DesiredState): boolean {
  return host === "" || (host === "node" && !state.has("default/node"));
}

function ofService(
  text: string,
  { state, family }: { state: DesiredState; family: IpFamily },
): Target[] {
  const [name = "", port] = text.split(":", 2);
  const key = name.includes("/") ? name : `default/${name}`;
  const service = state.get(key);
  if (service === undefined) {
    throw new TargetError(
      `Nothing serves "${text}": there is no Service ${key}`,
    );
  }
  if (service.ports.length === 0) {
    throw new TargetError(
      `Nothing serves "${text}": ${key} has no cluster IP (it is headless, or an ExternalName), so that DNS alone answers for it`,
    );
  }
  const ofFamily = service.ports.filter(({ servicePort }) =>
    servicePort.family === family
  );
  if (ofFamily.length === 0) {
    throw new TargetError(
      `Nothing serves "${text}" by ${family}: try --ip-family ${
        family === "IPv4" ? "ipv6" : "ipv4"
      }`,
    );
  }
  const found = ofFamily.filter(({ servicePort }) =>
    port === undefined || servicePort.port === port ||
    String(servicePort.portNumber) === port
  );
  if (found.length === 0) {
    const ports = ofFamily.map(({ servicePort }) =>
      servicePort.port || servicePort.portNumber
    );
    throw new TargetError(
      `Nothing serves "${text}": the ports of ${key} are ${ports.join(", ")}`,
    );
  }
  return found.map((state) => ({
    state,
    kind: "ClusterIP",
    ip: state.servicePort.clusterIP,
    port: state.servicePort.portNumber,
  }));
}

function ofAddress(
  ip: string,
  { port, protocol, state, nodeIps }: {
    port: number;
    protocol: string | undefined;
    state: DesiredState;
    nodeIps: ReadonlySet<string>;
  },
): Target[] {
  const ports = [...state.values()].flatMap((service) => service.ports)
    .filter(({ servicePort }) =>
      servicePort.family === ipFamily(ip) &&
      (protocol === undefined || servicePort.protocol === protocol)
    );
  const found = ports.flatMap((state): Target[] => {
    const kind = kindOf(state, { ip, port, nodeIps });
    return kind === undefined ? [] : [{ state, kind, ip, port }];
  });
  if (found.length > 0) return found;
  const what = formatHostPort(ip, port) + (protocol ? `/${protocol}` : "");
  throw new TargetError(`Nothing serves ${what}: ${portsAt(ip, state)}`);
}

/** What the address serves, for who asked for something else there. */
function portsAt(ip: string, state: DesiredState): string {
  const ports = [...state.values()].flatMap((service) => service.ports)
    .filter(({ servicePort }) =>
      [
        servicePort.clusterIP,
        ...servicePort.externalIPs,
        ...servicePort.loadBalancerIPs,
      ].includes(ip)
    ).map(({ servicePort }) =>
      `${servicePort.portNumber}/${servicePort.protocol} (${servicePort.text})`
    );
  return ports.length === 0
    ? "no Service has this address"
    : `this address has ${ports.join(", ")}`;
}

function kindOf(
  { servicePort }: ServicePortState,
  { ip, port, nodeIps }: {
    ip: string;
    port: number;
    nodeIps: ReadonlySet<string>;
  },
): AddressKind | undefined {
  const { clusterIP, externalIPs, loadBalancerIPs } = servicePort;
  if (port === servicePort.portNumber) {
    if (ip === clusterIP) return "ClusterIP";
    if (loadBalancerIPs.includes(ip)) return "LoadBalancerIP";
    if (externalIPs.includes(ip)) return "ExternalIP";
  }
  return port === servicePort.nodePort && nodeIps.has(ip)
    ? "NodePort"
    : undefined;
}
