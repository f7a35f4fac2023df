/** Which engine a user gets, and what they are told of it. */
import assert from "node:assert/strict";
import { manifest } from "../support/kube_objects.ts";
import { runKubePortal, startKubePortal } from "../support/kube_portal.ts";
import { eventually, loopbackRange } from "../support/loopback.ts";
import { askName, namedServer } from "../support/tcp.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { namedPeer, UdpPeer } from "../support/udp.ts";

const WHY_NOT = /it needs --allow-ffi \(or --allow-ffi=\/lib\S+\)$/;

Deno.test("without --allow-ffi portable takes over, with one line, and serves", async () => {
  await using stack = new AsyncDisposableStack();
  const tcp = stack.use(namedServer("tcp"));
  const udp = stack.use(namedPeer("udp"));
  const folder = stack.use(await temporaryFolder());
  const ip = `${loopbackRange()}.1.1`;
  await folder.write(
    "both.yaml",
    manifest(...service(ip, tcp.address.port, udp.address.port)),
  );
  const proxy = stack.use(startKubePortal([
    `--manifests=${folder.path}`,
    "--healthz-bind-address=",
    "--metrics-bind-address=",
  ], { task: "start:portable" }));
  await proxy.waitFor(" Ready ");
  await eventually(
    "TCP is served",
    () => askName({ ip, port: 8080 }).catch(() => ""),
    (name) => name === "tcp",
  );
  await using client = new UdpPeer();
  assert.equal(await client.askName({ ip, port: 8080 }), "udp");

  const lines = proxy.output.split("\n").filter((line) =>
    /Moving bytes|ffi/.test(line)
  );
  assert.equal(lines.length, 1, proxy.output);
  assert.match(
    lines[0]!,
    / INFO .*Moving bytes by portable: splice cannot run: /,
  );
  assert.match(lines[0]!, WHY_NOT);
});

Deno.test("--engine splice without --allow-ffi ends, with one sentence", async () => {
  await using folder = await temporaryFolder();
  const { code, stdout, stderr } = await runKubePortal([
    `--manifests=${folder.path}`,
    "--engine=splice",
    "--healthz-bind-address=",
    "--metrics-bind-address=",
  ], { task: "start:portable" });
  assert.notEqual(code, 0);
  const said = `${stdout}${stderr}`.trim().split("\n").at(-1)!;
  assert.match(said, /Cannot use the splice engine: /);
  assert.match(said, WHY_NOT);
  assert.ok(!/^ +at /m.test(`${stdout}${stderr}`), stderr);
});

/** One Service with TCP and UDP on port 8080, and its slice. */
function service(ip: string, tcp: number, udp: number) {
  return [
    {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "both" },
      spec: {
        clusterIP: ip,
        ports: ["TCP", "UDP"].map((protocol) => ({
          name: protocol.toLowerCase(),
          port: 8080,
          protocol,
        })),
      },
    },
    {
      apiVersion: "discovery.k8s.io/v1",
      kind: "EndpointSlice",
      metadata: {
        name: "both-1",
        labels: { "kubernetes.io/service-name": "both" },
      },
      addressType: "IPv4",
      ports: [
        { name: "tcp", port: tcp, protocol: "TCP" },
        { name: "udp", port: udp, protocol: "UDP" },
      ],
      endpoints: [{ addresses: ["127.0.0.1"] }],
    },
  ];
}
