/**
 * A node that forwards, as those of clusters do, for tests of modes in which the
 * kernel leads packets to endpoints by itself.
 *
 * @module
 */
import type { Namespace } from "./netns.ts";

/**
 * Pods reach each other by the node alone, as where nothing is bridged: an
 * answer that a bridge took past the node would come from a stranger. Packets
 * may go back where they came from.
 *
 * @param pods of a `Network`, all of them
 */
export async function routePods(
  node: Namespace,
  pods: readonly Namespace[],
): Promise<void> {
  await node.run([
    "sh",
    "-c",
    // Redirects would use up the ICMPs that the kernel sends to one host, and
    // refusals are ICMPs.
    "for f in /proc/sys/net/ipv4/conf/*/send_redirects; do echo 0 > $f; done; " +
    "echo 0 > /proc/sys/net/ipv6/icmp/ratelimit; " +
    "echo 1 > /proc/sys/net/ipv4/ip_forward; " +
    "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
  ]);
  for (const [index, pod] of pods.entries()) {
    const hairpin = ["type", "bridge_slave", "hairpin", "on"];
    await node.run(["ip", "link", "set", `veth${index + 1}`, ...hairpin]);
    for (const [flag, gateway, link] of LINKS) {
      await pod.run(["ip", flag, "-batch", "-"], {
        stdin: [
          `route replace ${gateway} dev eth0`,
          `route replace default via ${gateway}`,
          `route del ${link}`,
          "",
        ].join("\n"),
      });
    }
  }
}

/** The node's address on the bridge, and what is on the bridge with it. */
const LINKS = [
  ["-4", "10.244.0.1", "10.244.0.0/24"],
  ["-6", "fd00:244::1", "fd00:244::/64"],
] as const;
