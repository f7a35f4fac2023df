/**
 * The rights of the ClusterRole are the ones that are used: without one of
 * them the log names what was refused. That they are enough is
 * `daemonset_test.ts`.
 */
import { ACCESS_RULES } from "../../proxy/commands/access_rules.ts";
import { createApiServer } from "../../watch/apiserver/mod.ts";
import { kubeNode, kubeService } from "../support/kube_objects.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { loopbackRange } from "../support/loopback.ts";

/** What the log says without it, by resource. */
const SAYS: Readonly<Record<string, RegExp>> = {
  services: /WARN .*services.*403/,
  endpointslices: /WARN .*endpointslices.*403/,
  nodes: /WARN .*nodes.*403/,
  servicecidrs: /servicecidrs/i,
  events: /WARN .*[Ee]vents.*403/,
};

for (const { resource, optional } of ACCESS_RULES) {
  Deno.test(`without the right to ${resource} the log says so${optional ? ", and all Services are served" : ""}`, async () => {
    await using stack = new AsyncDisposableStack();
    const range = loopbackRange();
    const server = stack.use(
      createApiServer({ serviceCIDRs: [`${range}.0.0/17`] }),
    );
    const { url } = stack.use(await server.listen());
    server.create("nodes", kubeNode("node-1"));
    const service = kubeService("web", `${range}.1.1`, { http: 80 });
    const spec = service["spec"] as { ports: unknown[] };
    spec.ports.push({ name: "sctp", port: 81, protocol: "SCTP" });
    server.create("services", {
      ...service,
      metadata: { ...service.metadata, namespace: "default" },
    });
    server.faults.respondWith({
      status: 403,
      times: Infinity,
      match: (request) =>
        new URL(request.url, url).pathname.split("/").includes(resource),
    });
    const proxy = stack.use(startKubePortal([
      `--master=${url}`,
      "--hostname-override=node-1",
      "--healthz-bind-address=",
      "--metrics-bind-address=",
    ]));
    await proxy.waitFor(SAYS[resource] ?? /never/);
    if (optional) await proxy.waitFor(" Ready ");
  });
}
