/**
 * In kube-proxy's place: kubeadm's ConfigMap and arguments, a configuration
 * that changes while the proxy runs, and what is said about a bad one.
 */
import assert from "node:assert/strict";
import { parse } from "@std/yaml";
import { MountedConfigMap } from "../support/config_map.ts";
import { kubeadmFile } from "../support/kubeadm.ts";
import {
  kubeNode,
  kubeService,
  kubeSlice,
  KubeWriter,
} from "../support/kube_objects.ts";
import {
  freePort,
  runKubePortal,
  startKubePortal,
} from "../support/kube_portal.ts";
import {
  eventually,
  httpEndpoints,
  httpStatus,
  loopbackRange,
  whoAnswers,
} from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { tlsText } from "../support/tls.ts";

Deno.test("[8.8, 8.95, 8.104] run takes kube-proxy's place in kubeadm's DaemonSet, and follows its ConfigMap", async (t) => {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await temporaryFolder());
  const secrets = stack.use(await temporaryFolder());
  const range = loopbackRange();
  const ip = `${range}.1.1`;
  const port = freePort();
  const health = freePort();
  const metrics = freePort();
  const server = `http://127.0.0.1:${port}`;
  const apiserver = stack.use(startKubePortal([
    "apiserver",
    `--port=${port}`,
    `--service-cidr=${range}.0.0/17`,
  ]));
  await apiserver.waitFor("nothing is kept when it ends");
  const web = stack.use(httpEndpoints("web", [`${range}.200.1`]));
  const writer = new KubeWriter(server);
  await writer.create(kubeNode("node-1"));
  await writer.create(kubeService("web", ip, { http: 8080 }));
  await writer.create(
    kubeSlice("web", web.addresses, { http: web.port }),
  );

  const account = "/var/run/secrets/kubernetes.io/serviceaccount/";
  const kubeconfig = kubeadmFile("kubeconfig.conf", {
    "https://192.0.2.10:6443": server,
    [`${account}ca.crt`]: await secrets.write("ca.crt", tlsText("ca.crt")),
    [`${account}token`]: await secrets.write("token", "abc"),
  });
  const config = (lines: Readonly<Record<string, string>> = {}) =>
    kubeadmFile("config.conf", {
      "/var/lib/kube-proxy/kubeconfig.conf": `${folder.path}/kubeconfig.conf`,
      'healthzBindAddress: ""': `healthzBindAddress: 127.0.0.1:${health}`,
      'metricsBindAddress: ""': `metricsBindAddress: 127.0.0.1:${metrics}`,
      ...lines,
    });
  const text = config();
  const configMap = new MountedConfigMap(folder.path);
  const put = (text: string) =>
    configMap.put({ "config.conf": text, "kubeconfig.conf": kubeconfig });
  await put(text);
  const proxy = stack.use(startKubePortal([
    `--config=${folder.path}/config.conf`,
    "--hostname-override=node-1",
    // Ours; without it steering would ask for a privilege.
    "--steer=none",
  ]));
  await proxy.waitFor(" Ready ");

  await t.step("the first line names the mode and where it came from", () => {
    const [first = ""] = proxy.output.split("\n");
    assert.match(first, /: userspace proxy mode mode_from=".*config\.conf,/);
    assert.match(first, / node=node-1 /);
  });
  await t.step("kubeadm's defaults are nothing to warn of", () => {
    assert.doesNotMatch(proxy.output, / (WARN|ERROR) /);
  });
  await t.step("/configz answers what counts", async () => {
    const response = await fetch(`http://127.0.0.1:${metrics}/configz`);
    const { "kubeproxy.config.k8s.io": shown } = await response.json();
    assert.equal(shown.mode, "userspace");
    assert.equal(shown.clusterCIDR, "10.244.0.0/16");
  });
  await t.step("it serves, and is healthy", async () => {
    assert.equal(await whoAnswers(ip, 8080), "web-1");
    assert.equal(await httpStatus(`http://127.0.0.1:${health}/healthz`), 200);
  });
  const change = (lines: Readonly<Record<string, string>>) =>
    put(
      Object.entries(lines).reduce(
        (text, [from, to]) => text.replaceAll(from, to),
        text,
      ),
    );
  await t.step("what can be applied is", async () => {
    await change({
      "verbosity: 0": "verbosity: 4",
      "nodePortAddresses: null": "nodePortAddresses: [127.0.0.0/8]",
    });
    await proxy.waitFor(/Applied changes of the configuration file .*\n/);
    assert.match(
      proxy.output,
      /settings=\["logging\.verbosity","nodePortAddresses"\]/,
    );
  });
  await t.step("what cannot is named", async () => {
    await change({ 'hostnameOverride: ""': "hostnameOverride: other" });
    await eventually(
      "the first change is taken back",
      () => proxy.output.match(/Applied changes/g)?.length ?? 0,
      (count) => count === 2,
    );
    // The flag wins over this field: there is nothing to wait for.
    assert.doesNotMatch(proxy.output, /wait for a restart/);
    await change({ 'portRange: ""': "portRange: 20000-20099" });
    await proxy.waitFor(/wait for a restart .*settings=\["portRange"\]/);
  });
  await t.step("what is wrong changes nothing", async () => {
    await change({ 'mode: ""': "mode: ebpf" });
    await proxy.waitFor(/Cannot use the changed configuration file.*ebpf/);
    assert.equal(await whoAnswers(ip, 8080), "web-1");
  });
});

Deno.test("[7.15] run --config waits for its health address, unless told to fail", async (t) => {
  await using folder = await temporaryFolder();
  using taken = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const text = kubeadmFile("config.conf", {
    'healthzBindAddress: ""':
      `healthzBindAddress: 127.0.0.1:${taken.addr.port}`,
    'metricsBindAddress: ""': `metricsBindAddress: 127.0.0.1:${freePort()}`,
  });
  const args = [
    `--config=${await folder.write("config.conf", text)}`,
    `--manifests=${folder.path}`,
    "--steer=none",
  ];
  await t.step("it serves, and says that it goes on trying", async () => {
    await using proxy = startKubePortal(args);
    await proxy.waitFor(/Cannot serve .* flag=--healthz-bind-address/);
    await proxy.waitFor(" Ready ");
  });
  await t.step("bindAddressHardFail", async () => {
    await folder.write(
      "config.conf",
      text.replace("HardFail: false", "HardFail: true"),
    );
    const { code, stderr } = await runKubePortal(args);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^kube-portal: Cannot listen on 127\.0\.0\.1:\d+: it is in use/m,
    );
  });
});

Deno.test("[8.50, 8.92, 8.93, 8.94, 8.99] run --config says what is wrong in one line, and --write-config-to what counts", async (t) => {
  await using folder = await temporaryFolder();
  const text = kubeadmFile("config.conf", {});
  const good = await folder.write("good", text);

  await t.step("no file", async () => {
    const { code, stdout, stderr } = await runKubePortal([
      `--config=${folder.path}/none`,
    ]);
    assert.deepEqual([code, stdout], [1, ""]);
    assert.match(
      stderr,
      /^kube-portal: Cannot read ".*\/none", the file of --config: there is no such file\n$/,
    );
  });
  await t.step("a folder", async () => {
    const { code, stderr } = await runKubePortal([`--config=${folder.path}`]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^kube-portal: Cannot read ".*--config: it is a folder\n$/,
    );
  });
  await t.step("no kubeconfig where the file says that it is", async () => {
    const { code, stderr } = await runKubePortal([`--config=${good}`]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^kube-portal: Cannot read "\/var\/lib\/kube-proxy\/kubeconfig\.conf", the kubeconfig of clientConnection\.kubeconfig: there is no such file\n$/,
    );
  });
  await t.step("several mistakes", async () => {
    const bad = await folder.write(
      "bad",
      text.replace('mode: ""', "mode: ebpf")
        .replace("oomScoreAdj: null", "oomScoreAdj: 5000"),
    );
    const { code, stderr } = await runKubePortal([`--config=${bad}`]);
    assert.equal(code, 1);
    assert.match(
      stderr,
      /^kube-portal: Invalid configuration in ".*": \[.*"ebpf": must be userspace.*, .*5000: .*\]\n$/,
    );
  });
  await t.step("unknown fields and flags that do not count", async () => {
    const newer = await folder.write("newer", `${text}newField: 1\n`);
    const { code, stderr } = await runKubePortal([
      `--config=${newer}`,
      "--cluster-cidr=10.0.0.0/8",
      "--init-only",
    ]);
    assert.equal(code, 0);
    const [first = "", second = "", ...rest] = stderr.trimEnd().split("\n");
    assert.match(first, / WARN .*unknown field .*newField/);
    assert.match(second, / WARN .*--cluster-cidr/);
    assert.deepEqual(rest, []);
  });
  await t.step("settings that do nothing, at -v=1", async () => {
    const flags = ["--oom-score-adj=-5", "--vmodule=a=2", "--init-only"];
    assert.equal((await runKubePortal(flags)).stderr, "");
    const { stderr } = await runKubePortal([...flags, "-v=1"]);
    assert.match(
      stderr,
      /^\S+ INFO .*settings=\["oomScoreAdj","--vmodule"\]\n$/,
    );
  });
  await t.step("--write-config-to", async () => {
    const { code, stdout, stderr } = await runKubePortal([
      `--config=${good}`,
      "--write-config-to=-",
    ]);
    assert.deepEqual([code, stderr], [0, ""]);
    const written = parse(stdout) as Record<string, unknown>;
    assert.equal(written.healthzBindAddress, "0.0.0.0:10256");
    assert.equal(written.mode, "userspace");
    assert.equal(written.clusterCIDR, "10.244.0.0/16");
    const denied = await runKubePortal([`--write-config-to=${good}`]);
    assert.equal(denied.code, 1);
    assert.match(denied.stderr, /^kube-portal: Cannot write .*--allow-write=/);
  });
  await t.step("--version=raw", async () => {
    const { code, stdout } = await runKubePortal(["--version=raw"]);
    assert.equal(code, 0);
    assert.match(stdout, /^kube-portal v/);
  });
});
