/**
 * The whole way by hand: an API server, the proxy, `kubectl apply`, `curl`.
 * Each in a process of its own, on loopback addresses.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import { kubeService, kubeSlice, manifest } from "../support/kube_objects.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import { Kubectl, type KubectlProgram, KUBECTLS } from "../support/kubectl.ts";
import {
  connect,
  eventually,
  hear,
  httpEndpoints,
  httpStatus,
  loopbackRange,
  say,
  tally,
  whoAnswers,
} from "../support/loopback.ts";
import { program, testWith } from "../support/needs.ts";
import { echoServer } from "../support/tcp.ts";

const NODE = "node-1";

interface Cluster {
  readonly server: string;
  readonly proxy: Child;
  /** `127.x`: ClusterIPs are in `127.x.0.0/16`. */
  readonly range: string;
}

/** An API server and a proxy that follows it. */
async function startCluster(stack: AsyncDisposableStack): Promise<Cluster> {
  const range = loopbackRange();
  const port = freePort();
  const apiserver = stack.use(startKubePortal([
    "apiserver",
    `--port=${port}`,
    `--service-cidr=${range}.0.0/17`,
  ]));
  await apiserver.waitFor(`kubectl --server http://127.0.0.1:${port} get`);
  const health = freePort();
  const server = `http://127.0.0.1:${port}`;
  const proxy = stack.use(startKubePortal([
    `--master=${server}`,
    "--steer=none",
    `--hostname-override=${NODE}`,
    `--healthz-bind-address=127.0.0.1:${health}`,
    "--metrics-bind-address=",
  ]));
  await proxy.waitFor(" Ready ");
  assert.equal(await httpStatus(`http://127.0.0.1:${health}/healthz`), 503);
  return { server, proxy, range };
}

/** The first word of what `curl` prints. */
async function curl(ip: string, port: number): Promise<string> {
  const { code, stdout, stderr } = await new Deno.Command("curl", {
    args: ["-sS", "--max-time", "10", `http://${ip}:${port}/`],
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  if (code !== 0) return decoder.decode(stderr).trim();
  return decoder.decode(stdout).split(" ")[0] ?? "";
}

const OMS = "services-prod-6059-oms-api";
const NEXUS = "addon-nexus";

async function shareAndFollow(program: KubectlProgram): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { server, proxy, range } = await startCluster(stack);
  const kubectl = stack.use(new Kubectl(program, server));
  const omsIp = `${range}.7.223`;
  const nexusIp = `${range}.20.10`;
  const oms = stack.use(
    httpEndpoints("oms", [1, 2, 3].map((n) => `${range}.200.${n}`)),
  );
  const nexusPods = [1, 2, 3].map((n) => `${range}.201.${n}`);
  const nexus = Object.fromEntries(
    [8081, 5000, 5500].map((port) => [
      port,
      stack.use(httpEndpoints(`nexus-${port}`, nexusPods)),
    ]),
  );
  const nexusPorts = (of: (port: number) => number) =>
    Object.fromEntries(
      [8081, 5000, 5500].map((port) => [`addon-nexus-tcp-${port}`, of(port)]),
    );
  const nexusSlice = (pods: readonly string[]) =>
    kubeSlice(NEXUS, pods, nexusPorts((port) => nexus[port]?.port ?? 0));
  const nexusService = kubeService(NEXUS, nexusIp, nexusPorts((port) => port));

  await kubectl.apply(manifest(
    kubeService(OMS, omsIp, { "http-0": 26880 }),
    kubeSlice(OMS, oms.addresses, { "http-0": oms.port }),
    nexusService,
    nexusSlice(nexusPods),
  ));
  await proxy.waitFor(`added service port default/${OMS}:http-0`);
  for (const port of [8081, 5000, 5500]) {
    await proxy.waitFor(`default/${NEXUS}:addon-nexus-tcp-${port} `);
  }
  // Every endpoint exactly its share, from the very first connection on.
  assert.deepEqual(
    await tally(30, () => curl(omsIp, 26880)),
    { "oms-1": 10, "oms-2": 10, "oms-3": 10 },
  );
  for (const port of [8081, 5000, 5500]) {
    assert.deepEqual(await tally(30, () => curl(nexusIp, port)), {
      [`nexus-${port}-1`]: 10,
      [`nexus-${port}-2`]: 10,
      [`nexus-${port}-3`]: 10,
    });
  }

  // Scaled down: the endpoint that went gets nothing more.
  await kubectl.apply(manifest(nexusSlice(nexusPods.slice(0, 2))));
  await eventually(
    "the third endpoint is out of the rotation",
    () => tally(3, () => whoAnswers(nexusIp, 8081)),
    (seen) => !("nexus-8081-3" in seen),
  );
  const before = [...(nexus[5000]?.counts ?? [])];
  const after = await tally(30, () => curl(nexusIp, 5000));
  assert.deepEqual(after, { "nexus-5000-1": 15, "nexus-5000-2": 15 });
  assert.equal(nexus[5000]?.counts[2], before[2]);

  // The Service goes, and comes back.
  await kubectl.run("delete", "service", NEXUS);
  await proxy.waitFor(`removed service port default/${NEXUS}:`);
  await eventually(
    "connections are refused",
    () => whoAnswers(nexusIp, 8081),
    (who) => who === "refused",
  );
  assert.match(await curl(nexusIp, 8081), /refused|Couldn't connect/);
  assert.equal(await curl(omsIp, 26880), "oms-1", "the other goes on");
  await kubectl.apply(manifest(nexusService));
  await eventually(
    "it answers again",
    () => whoAnswers(nexusIp, 8081),
    (who) => who !== "refused",
  );
}

async function keepConnections(program: KubectlProgram): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const { server, proxy, range } = await startCluster(stack);
  const kubectl = stack.use(new Kubectl(program, server));
  const old = stack.use(echoServer(`${range}.200.1`));
  const next = stack.use(httpEndpoints("next", [`${range}.200.2`]));
  const ip = `${range}.1.1`;
  await kubectl.apply(manifest(
    kubeService("echo", ip, { tcp: 8080 }),
    kubeSlice("echo", [old.address.ip], { tcp: old.address.port }),
  ));
  await proxy.waitFor("added service port default/echo:tcp");
  using connection = await connect(ip, 8080);
  const echo = async (text: string) => {
    await say(connection, text);
    assert.equal(await hear(connection), text);
  };
  await echo("before");

  await kubectl.apply(
    manifest(kubeSlice("echo", next.addresses, { tcp: next.port })),
  );
  await eventually(
    "new connections go to the new endpoint",
    () => whoAnswers(ip, 8080),
    (who) => who === "next-1",
  );
  await echo("its endpoint is gone");

  await kubectl.run("delete", "service", "echo");
  await proxy.waitFor("removed service port default/echo:tcp");
  await eventually(
    "new connections are refused",
    () => whoAnswers(ip, 8080),
    (who) => who === "refused",
  );
  await echo("its Service is gone");

  await connection.closeWrite();
  assert.equal(await hear(connection), "", "ended by its own end");
}

const curlNeed = program("curl");
for (const each of KUBECTLS) {
  testWith(
    [each.need, curlNeed],
    `${each.name} apply: curl finds every endpoint equally often, and only those that are there`,
    () => shareAndFollow(each),
  );
  testWith(
    [each.need],
    `${each.name} apply, delete: a connection outlives its endpoint and its Service`,
    () => keepConnections(each),
  );
}
