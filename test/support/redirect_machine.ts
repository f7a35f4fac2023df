/**
 * A machine with fake programs for tests of `redirect`, Service addresses, and
 * a pass in which every listener can be opened.
 *
 * @module
 */
import { RedirectSteering } from "../../proxy/rules/redirect.ts";
import type { PortRange } from "../../proxy/rules/proxy_ports.ts";
import type { ListenerChanges, ServiceAddress } from "../../proxy/steering.ts";
import { FakeIp } from "./fake_ip.ts";
import { FakeIptables } from "./fake_iptables.ts";
import { type Packet, tracePacket } from "./packet_tracer.ts";

const { signal } = new AbortController();
export const NOTHING: ListenerChanges = {
  opened: [],
  closed: [],
  released: [],
};

/** Fake programs, and what packets do. */
export class Machine {
  readonly ip = new FakeIp().addNode("192.0.2.7", "192.0.2.1");
  readonly iptables = new FakeIptables(this.ip);

  /** Not started. */
  steering(
    more: { ports?: PortRange; sharesTcp?: boolean } = {},
  ): RedirectSteering {
    return new RedirectSteering({
      runner: this.iptables,
      os: "linux",
      ...more,
    });
  }

  async started(more?: Parameters<Machine["steering"]>[0]) {
    const steering = this.steering(more);
    await steering.start(signal);
    return steering;
  }

  /** Where a packet ends; from a pod, if nothing else is said. */
  trace(packet: Partial<Packet> & { to: string }): string {
    const isV6 = packet.to.includes(":");
    const program = isV6 ? "ip6tables-nft" : "iptables-nft";
    const machine = {
      addresses: [
        ...this.ip.addresses.map(({ local }) => local),
        ...this.ip.routes.filter(({ type }) => type === "2")
          .map(({ dst }) => dst),
      ],
      primary: isV6 ? "fd00:2::7" : "192.0.2.7",
    };
    const rest = { from: "pod", port: 80, protocol: "TCP" } as const;
    return tracePacket(
      { ...rest, ...packet },
      this.iptables.ruleset(program),
      machine,
    );
  }

  /** Everything that is ours, or was changed. */
  get state() {
    const saved = ["iptables-nft", "ip6tables-nft", "iptables-legacy"].map(
      (name) => this.iptables.save(name).split("\n").sort(),
    );
    return structuredClone([saved, this.ip.routes, this.ip.addresses]);
  }
}

/** A ClusterIP, if nothing else is said. */
export function address(
  ip: string,
  port = 80,
  more: Partial<ServiceAddress> = {},
): ServiceAddress {
  return {
    kind: "ClusterIP",
    ip,
    port,
    protocol: "TCP",
    name: "default/web:http",
    ...more,
  };
}

/** A pass in which every listener can be opened. */
export async function serve(
  steering: RedirectSteering,
  addresses: readonly ServiceAddress[],
) {
  await steering.prepare(addresses);
  const opened = addresses.flatMap((address) => {
    const listen = steering.bindAddress(address);
    return listen === undefined ? [] : [{ address, listen }];
  });
  const result = await steering.sync({ ...NOTHING, opened }, signal);
  return { opened, result };
}

/** One of each kind. */
export const WEB: readonly ServiceAddress[] = [
  address("10.96.0.10"),
  address("fd00:96::a"),
  address("10.96.0.10", 53, { protocol: "UDP" }),
  address("192.0.2.7", 30_080, { kind: "NodePort" }),
  address("198.51.100.9", 80, { kind: "ExternalIP" }),
];
