/**
 * kubeadm's kube-proxy DaemonSet with nothing but the program replaced: its
 * command line, its ConfigMap where it mounts it, the service account's files,
 * default ports, and every mode that its ConfigMap can ask for.
 */
import assert from "node:assert/strict";
import type { Child } from "../support/child.ts";
import { MountedConfigMap } from "../support/config_map.ts";
import { kubeadmFile } from "../support/kubeadm.ts";
import { startKubePortal } from "../support/kube_portal.ts";
import { ffi } from "../support/ffi.ts";
import { program, testWith } from "../support/needs.ts";
import { netns } from "../support/netns.ts";
import {
  NODE_NAME,
  NodeCluster,
  serviceObjects,
  untilAnswers,
} from "../support/node_cluster.ts";
import { routePods } from "../support/route_pods.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { tlsPath } from "../support/tls.ts";

const TOKEN = "kubeadm-t0ken-that-nobody-should-read";
const CONFIG = "/var/lib/kube-proxy";
const ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount";

/** `command` of kubeadm's DaemonSet, after the program's name. */
const COMMAND_LINE = [
  `--config=${CONFIG}/config.conf`,
  "--hostname-override=$(NODE_NAME)",
];

/** What the kubelet gives every container: the ClusterIP, which is ours to serve. */
const ENVIRONMENT = {
  NODE_NAME,
  KUBERNETES_SERVICE_HOST: "10.96.0.1",
  KUBERNETES_SERVICE_PORT: "443",
};

interface Case {
  /** `mode` of config.conf, as it is written. */
  readonly mode: string;
  readonly runs: string;
}

const CASES: readonly Case[] = [
  { mode: '""', runs: "userspace" },
  { mode: "userspace", runs: "userspace" },
  { mode: "iptables", runs: "iptables" },
  { mode: "nftables", runs: "nftables" },
];

/** The node's files as the DaemonSet's pod sees them, and HTTPS in front. */
async function mountPod(cluster: NodeCluster): Promise<MountedConfigMap> {
  const { node } = cluster;
  const folder = cluster.use(await temporaryFolder());
  const account = cluster.use(await temporaryFolder());
  await account.write("ca.crt", await Deno.readTextFile(tlsPath("ca.crt")));
  await account.write("token", TOKEN);
  // The namespace has its own mounts: nobody else sees these.
  await node.run([
    "sh",
    "-ec",
    `mount -t tmpfs tmpfs /var/lib
    mkdir -p ${CONFIG} ${ACCOUNT}
    mount --bind ${folder.path} ${CONFIG}
    mount --bind ${account.path} ${ACCOUNT}`,
  ]);
  const front = cluster.use(node.startDeno("test/support/secure_front.ts", [
    "127.0.0.1",
    "6443",
    "http://127.0.0.1:8001",
    TOKEN,
  ]));
  await front.waitFor(/^ready$/m);
  return new MountedConfigMap(folder.path);
}

function start(cluster: NodeCluster): Child {
  // Kubernetes puts variables in, and no shell.
  const args = COMMAND_LINE.map((arg) =>
    arg.replace("$(NODE_NAME)", ENVIRONMENT.NODE_NAME)
  );
  return cluster.use(
    startKubePortal(args, { namespace: cluster.node, env: ENVIRONMENT }),
  );
}

testWith(
  [netns, ffi, program("iptables"), program("nft"), program("curl")],
  "[8.8, 8.104] kubeadm's command line and files, unchanged, run every mode that its ConfigMap names",
  async (t) => {
    await using cluster = await NodeCluster.start({ startsProxy: false });
    const { node, outside } = cluster;
    const [pod1, pod2] = [cluster.pod(1), cluster.pod(2)];
    const configMap = await mountPod(cluster);
    await routePods(node, [pod1, pod2]);
    await cluster.serve(pod1);
    await cluster.serve(pod2);
    await cluster.apply(...serviceObjects("web", {
      number: 10,
      endpoints: [pod1, pod2],
      ports: [{ name: "http", port: 80, nodePort: 30_080 }],
      spec: { type: "NodePort" },
    }));
    const kubeconfig = kubeadmFile("kubeconfig.conf", {
      // What `kubeadm init` writes in any case: the cluster's own.
      "https://192.0.2.10:6443": "https://127.0.0.1:6443",
    });
    const ask = (url: string) => node.run(["curl", "-sS", url]);

    for (const { mode, runs } of CASES) {
      await t.step(`mode: ${mode}`, async () => {
        await configMap.put({
          "config.conf": kubeadmFile("config.conf", {
            'mode: ""': `mode: ${mode}`,
          }),
          "kubeconfig.conf": kubeconfig,
        });
        const proxy = start(cluster);
        await proxy.waitFor(" Ready ");
        const [first = ""] = proxy.output.split("\n");
        assert.match(first, new RegExp(`: ${runs} proxy mode .*config\\.conf`));
        assert.match(
          first,
          / node=node-1 .*source=https:\/\/127\.0\.0\.1:6443/,
        );
        assert.doesNotMatch(proxy.output, / (WARN|ERROR) /);
        const both = `${pod1.name} ${pod2.name}`;
        const times = 24;
        await untilAnswers(both, pod1, "10.96.0.10", { times });
        await untilAnswers(both, node, "10.96.0.10", { times });
        await untilAnswers(both, outside, node.ipv4, { times, port: 30_080 });
        // Everybody may ask for health; metrics are the node's.
        await outside.run([
          "curl",
          "-sSf",
          `http://${node.ipv4}:10256/healthz`,
        ]);
        const metrics = "http://127.0.0.1:10249";
        assert.equal(await ask(`${metrics}/proxyMode`), runs);
        assert.match(
          await ask(`${metrics}/metrics`),
          /^kubeproxy_sync_proxy_rules_last_timestamp_seconds\{/m,
        );
        const configz = JSON.parse(await ask(`${metrics}/configz`));
        assert.equal(configz["kubeproxy.config.k8s.io"].mode, runs);
        proxy.kill("SIGTERM");
        assert.equal((await proxy.status).code, 0, proxy.output);
        await proxy.ended;
        assert.ok(!proxy.output.includes(TOKEN));
      });
    }
  },
);
