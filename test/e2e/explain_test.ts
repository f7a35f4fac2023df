/** `kube-portal explain` and `render` as users call them, with no cluster. */
import assert from "node:assert/strict";
import { goldenText } from "../support/golden.ts";
import { runKubePortal } from "../support/kube_portal.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";

/** The recorded cluster, as its YAML files have it. */
async function manifests(): Promise<TemporaryFolder> {
  const folder = await temporaryFolder();
  for (const name of ["services.yaml", "slices.yaml", "node.yaml"]) {
    await folder.write(name, goldenText(name));
  }
  return folder;
}

Deno.test("explain tells every mode, from manifests alone", async () => {
  await using folder = await manifests();
  const given = `--manifests=${folder.path}`;
  const { code, stdout, stderr } = await runKubePortal([
    "explain",
    "default/services-prod-6059-oms-api:http-0",
    given,
  ]);
  assert.equal(code, 0, stderr);
  for (
    const word of [
      "userspace mode",
      "iptables mode",
      "ipvs mode",
      "nftables mode",
      "KUBE-SVC-KLU3DS3WRPTYAOLU",
      "destination 10.96.7.223:26880 ⇒ 10.200.0.11:26880",
      "vmap @service-ips",
    ]
  ) assert.ok(stdout.includes(word), word);
});

Deno.test("explain --json is data, and --mermaid a chart", async () => {
  await using folder = await manifests();
  const given = `--manifests=${folder.path}`;
  const args = ["explain", "10.96.20.10:8081", "--proxy-mode=ipvs", given];
  const json = await runKubePortal([...args, "--json"]);
  const [explanation] = JSON.parse(json.stdout);
  assert.equal(
    explanation.servicePort,
    "default/addon-nexus:addon-nexus-tcp-8081",
  );
  assert.equal(explanation.branches.length, 2);
  const chart = await runKubePortal([...args, "--mermaid"]);
  assert.match(chart.stdout, /^flowchart TD\n(?: {2}n\d+.*\n)+$/);
});

Deno.test("explain says in one line what is wrong with what it was asked", async () => {
  await using folder = await manifests();
  const given = `--manifests=${folder.path}`;
  const table: readonly (readonly [readonly string[], RegExp])[] = [
    [[], /A target is needed: want NAMESPACE\/SERVICE/],
    [["default/nope", given], /there is no Service default\/nope/],
    [["10.96.20.10:1", given], /this address has 8081\/TCP/],
    [["a", "b", given], /Unexpected argument "b"/],
    [
      ["a", "--from=mars", given],
      /--from: want pod, node, outside or an IP/,
    ],
    [["a", "--proxy-mode=x", given], /proxy-mode/],
    [["a", "--manifests=/nonexistent"], /\/nonexistent/],
  ];
  for (const [args, message] of table) {
    const { code, stdout, stderr } = await runKubePortal(["explain", ...args]);
    assert.equal(code, 1, args.join(" "));
    assert.equal(stdout, "");
    assert.match(stderr, message);
    assert.equal(stderr.trim().split("\n").length, 1, stderr);
  }
});
