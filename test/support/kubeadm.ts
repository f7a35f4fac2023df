/**
 * kubeadm's ConfigMap of kube-proxy, as its DaemonSet mounts it.
 *
 * @module
 */
import assert from "node:assert/strict";

const FIXTURES = new URL("../fixture/kubeadm/", import.meta.url);

/** A file of kubeadm's ConfigMap with some lines of it replaced. */
export function kubeadmFile(
  name: "config.conf" | "kubeconfig.conf",
  lines: Readonly<Record<string, string>> = {},
): string {
  let text = Deno.readTextFileSync(new URL(name, FIXTURES));
  for (const [from, to] of Object.entries(lines)) {
    assert.ok(text.includes(from), from);
    text = text.replaceAll(from, to);
  }
  return text;
}
