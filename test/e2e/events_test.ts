/**
 * What the owner of a Service is told where kubectl shows it: Kubernetes Events
 * that the proxy wrote.
 */
import assert from "node:assert/strict";
import { kubeNode, kubeSlice, manifest } from "../support/kube_objects.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import { Kubectl, type KubectlProgram, KUBECTLS } from "../support/kubectl.ts";
import { eventually, loopbackRange } from "../support/loopback.ts";
import { testWith } from "../support/needs.ts";

/** A port of 127.0.0.1 that a Service can ask for as a NodePort. */
function takenNodePort(): Deno.TcpListener {
  for (let port = 30_000;; port++) {
    try {
      return Deno.listen({ hostname: "127.0.0.1", port });
    } catch (error) {
      if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    }
  }
}

async function describe(program: KubectlProgram): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const range = loopbackRange();
  const port = freePort();
  const server = `http://127.0.0.1:${port}`;
  const apiserver = stack.use(startKubePortal([
    "apiserver",
    `--port=${port}`,
    `--service-cidr=${range}.0.0/17`,
  ]));
  await apiserver.waitFor("nothing is kept when it ends");
  const kubectl = stack.use(new Kubectl(program, server));
  const taken = stack.use(takenNodePort());
  await kubectl.apply(manifest(
    kubeNode("node-1"),
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "web" },
      spec: {
        type: "NodePort",
        clusterIP: `${range}.1.1`,
        ports: [
          { name: "http", port: 8080, nodePort: taken.addr.port },
          { name: "sctp", port: 8081, protocol: "SCTP" },
        ],
      },
    },
    kubeSlice("web", [`${range}.200.1`], { http: 80 }),
  ));
  const proxy = stack.use(startKubePortal([
    `--master=${server}`,
    "--steer=none",
    "--hostname-override=node-1",
    "--nodeport-addresses=127.0.0.0/8",
    "--healthz-bind-address=",
    "--metrics-bind-address=",
  ]));
  await proxy.waitFor(" Ready ");
  // Another process of this machine may have the ClusterIP's port as well.
  const inUse = new RegExp(
    `Warning +PortInUse .*kube-portal.* node node-1 does not serve 127\\.0\\.0\\.1:${taken.addr.port}/TCP: .*in use by another process`,
  );
  const described = await eventually(
    "the Service's owner is told",
    () => kubectl.run("describe", "service", "web"),
    (text) => inUse.test(text) && /Unsupported/.test(text),
  );
  assert.match(
    described,
    /Warning +Unsupported .*Port 8081\/SCTP is not served/,
  );
  const events = await kubectl.run("get", "events");
  assert.match(events, /Normal +Starting +node\/node-1/);
}

for (const each of KUBECTLS) {
  testWith(
    [each.need],
    `[6.16, 8.101] ${each.name} describe service shows what the proxy cannot do for it`,
    () => describe(each),
  );
}
