/**
 * A node with two pods in a guest whose kernel has IPVS:
 *
 *     pod1 10.244.0.2 ─ veth1 ─┐
 *                              node 192.0.2.7
 *     pod2 10.244.0.3 ─ veth2 ─┘
 *
 * and the same in IPv6. Pods answer HTTP with their names.
 *
 * @module
 */
import { Guest } from "./guest.ts";

/** What ipvs mode takes of the kernel. */
const MODULES = [
  ...["dummy", "veth", "ip_vs", "ip_vs_rr", "ip_vs_lc", "nf_conntrack_netlink"],
  ...["nf_tables", "nft_compat", "nft_chain_nat", "ipt_REJECT", "ip6t_REJECT"],
  ...["xt_set", "xt_comment", "xt_conntrack", "xt_addrtype", "xt_mark"],
  ...["xt_MASQUERADE", "xt_tcpudp", "xt_physdev", "xt_ipvs"],
  ...["ip_set_hash_ip", "ip_set_hash_ipport", "ip_set_hash_ipportip"],
  ...["ip_set_hash_ipportnet", "ip_set_bitmap_port"],
];

export const REFUSED = "Connection refused";

export const NODE_IP = "192.0.2.7";

export interface GuestPod {
  readonly name: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export const PODS: readonly [GuestPod, GuestPod] = [
  { name: "pod1", ipv4: "10.244.0.2", ipv6: "fd00:244::2" },
  { name: "pod2", ipv4: "10.244.0.3", ipv6: "fd00:244::3" },
];

/**
 * Boots the guest and builds the node.
 *
 * @param ports on which each pod answers
 */
export async function bootNode(
  { ports, memoryMb = 384 }: {
    ports: readonly number[];
    memoryMb?: number;
  },
): Promise<Guest> {
  const guest = await Guest.boot({ modules: MODULES, memoryMb });
  try {
    await guest.run(
      "ip link add node0 type dummy && ip link set node0 up && " +
        `ip address add ${NODE_IP}/24 dev node0 && ` +
        "sysctl -q -w net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    for (const pod of PODS) await addPod(guest, pod, ports);
    return guest;
  } catch (error) {
    await guest[Symbol.asyncDispose]();
    throw error;
  }
}

async function addPod(
  guest: Guest,
  { name, ipv4, ipv6 }: GuestPod,
  ports: readonly number[],
): Promise<void> {
  const veth = name.replace("pod", "veth");
  const inside = `ip -n ${name}`;
  // Addresses are used at once: nobody else could have them.
  const link = `ip link add ${veth} type veth peer name eth0 netns ${name}`;
  await guest.run([
    `ip netns add ${name}`,
    link,
    `${inside} link set lo up`,
    `${inside} link set eth0 up`,
    `${inside} address add ${ipv4}/32 dev eth0`,
    `${inside} address add ${ipv6}/128 dev eth0 nodad`,
    `${inside} route add 10.244.0.1 dev eth0`,
    `${inside} route add default via 10.244.0.1`,
    `ip link set ${veth} up`,
    `ip address add 10.244.0.1/32 dev ${veth}`,
    `ip address add fe80::1/64 dev ${veth} nodad`,
    `${inside} -6 route add default via fe80::1 dev eth0`,
    `ip route add ${ipv4} dev ${veth}`,
    `ip -6 route add ${ipv6} dev ${veth}`,
    `mkdir -p /run/${name}`,
    `echo ${name} > /run/${name}/index.html`,
    ...ports.map((port) =>
      `ip netns exec ${name} busybox httpd -p ${port} -h /run/${name}`
    ),
  ].join(" && "));
}

/**
 * Asks by HTTP.
 *
 * @param from a pod's name; missing: the node itself
 * @returns the name of the pod that answered, or why none did
 */
export async function ask(
  guest: Guest,
  address: string,
  from?: string,
): Promise<string> {
  const inside = from === undefined ? "" : `ip netns exec ${from} `;
  const { code, output } = await guest.try(
    `${inside}curl -sv -m 20 http://${address}/ 2>/run/said || ` +
      "grep -o 'Connection refused' /run/said || tail -n 1 /run/said",
  );
  return code === 0 ? output.trim() : `code ${code}`;
}
