/** `status` and `dashboards` as their users run them. */
import assert from "node:assert/strict";
import { parse } from "@std/yaml";
import { kubeService, kubeSlice, manifest } from "../support/kube_objects.ts";
import {
  freePort,
  runKubePortal,
  startKubePortal,
} from "../support/kube_portal.ts";
import { loopbackRange, whoAnswers } from "../support/loopback.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { httpEndpoints } from "../support/loopback.ts";

Deno.test("status shows a running proxy as a table, as JSON and again and again", async (t) => {
  const range = loopbackRange();
  const port = freePort();
  await using folder = await temporaryFolder();
  await using endpoints = httpEndpoints("web", [`${range}.200.1`]);
  const ip = `${range}.1.1`;
  await folder.write(
    "web.yaml",
    manifest(
      kubeService("web", ip, { http: 8080 }),
      kubeSlice("web", endpoints.addresses, { http: endpoints.port }),
    ),
  );
  await using proxy = startKubePortal([
    "--steer=none",
    `--manifests=${folder.path}`,
    "--healthz-bind-address=",
    `--metrics-bind-address=127.0.0.1:${port}`,
  ]);
  await proxy.waitFor(/ Ready/);
  assert.equal(await whoAnswers(ip, 8080), "web-1");
  const where = `--metrics-bind-address=127.0.0.1:${port}`;

  await t.step("a table", async () => {
    const { code, stdout, stderr } = await runKubePortal(["status", where]);
    assert.equal(code, 0, stderr);
    assert.match(stdout, /^kube-portal v\S+ on \S+, healthy, engine /);
    assert.match(stdout, /^Steering: none; /m);
    assert.match(
      stdout,
      new RegExp(
        `^default/web:http +${ip}:8080/TCP +itself +${range}\\.200\\.1:${endpoints.port} +0 +1 +0 `,
        "m",
      ),
    );
  });

  await t.step("JSON", async () => {
    const { code, stdout } = await runKubePortal(["status", "--json", where]);
    assert.equal(code, 0);
    const { overview, ports, events } = JSON.parse(stdout);
    assert.equal(overview.totals.total, 1);
    assert.equal(ports[0].name, "default/web:http");
    assert.equal(ports[0].endpoints[0].state, "ready");
    assert.ok(
      events.some(({ message }: { message: string }) =>
        message.startsWith("added service port default/web:http")
      ),
    );
  });

  await t.step("again and again, until it is told to end", async () => {
    await using watching = startKubePortal(["status", "--watch", where]);
    await watching.waitFor("default/web:http");
    assert.equal(await whoAnswers(ip, 8080), "web-1");
    await watching.waitFor("2 in all");
    watching.kill("SIGINT");
    assert.equal((await watching.status).code, 0);
    await watching.ended;
  });
});

Deno.test("status says in one line that no proxy answers", async () => {
  const where = `127.0.0.1:${freePort()}`;
  const ended = await runKubePortal([
    "status",
    `--metrics-bind-address=${where}`,
  ]);
  assert.deepEqual(ended, {
    code: 1,
    stdout: "",
    stderr: `kube-portal: No proxy answers on ${where}; start one, or name ` +
      "its address with --metrics-bind-address\n",
  });
});

Deno.test("dashboards prints what Grafana and Prometheus read", async () => {
  const grafana = await runKubePortal(["dashboards", "grafana"]);
  assert.equal(JSON.parse(grafana.stdout).title, "kube-portal");
  const alerts = await runKubePortal(["dashboards", "alerts"]);
  const { groups } = parse(alerts.stdout) as { groups: { name: string }[] };
  assert.equal(groups[0]?.name, "kube-portal");
  const neither = await runKubePortal(["dashboards", "nagios"]);
  assert.deepEqual(neither, {
    code: 1,
    stdout: "",
    stderr: 'kube-portal: Unknown file "nagios": want grafana or alerts\n',
  });
});
