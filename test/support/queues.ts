/**
 * Whether the kernel can pass what waits at a listener that is closed on to
 * another one (Linux 5.14), and how a namespace is told to.
 *
 * @module
 */
import { TCP_MIGRATE_REQ } from "../../proxy/port_sharing.ts";
import type { Need } from "./needs.ts";
import type { Namespace } from "./netns.ts";

export const queues: Need = () => {
  try {
    Deno.statSync(TCP_MIGRATE_REQ);
    return undefined;
  } catch {
    return "queues of listeners do not pass on (Linux 5.14)";
  }
};

export async function letQueuesPassOn(node: Namespace): Promise<void> {
  const name = TCP_MIGRATE_REQ.replace("/proc/sys/", "").replaceAll("/", ".");
  await node.run(["sysctl", "-q", "-w", `${name}=1`]);
}
