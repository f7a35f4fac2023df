/**
 * The development API server as a process that other namespaces reach:
 * `kube-portal apiserver` listens on 127.0.0.1 alone.
 *
 *     deno run -A test/bench/modes/api_server.ts IP PORT CIDR MANIFESTS
 *
 * @module
 */
import { print } from "../../../proxy/commands/terminal.ts";
import {
  createApiServer,
  loadManifests,
} from "../../../watch/apiserver/mod.ts";

if (import.meta.main) {
  const [hostname = "", port, cidr = "", folder = ""] = Deno.args;
  const server = createApiServer({ serviceCIDRs: [cidr] });
  const { problems } = await loadManifests(server, folder);
  if (problems.length > 0) throw new Error(problems[0]!.message);
  await server.listen({ hostname, port: Number(port) });
  print("Ready\n");
}
