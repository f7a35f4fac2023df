/**
 * The dashboard of a whole proxy, in a real Chromium: what changes in the
 * cluster, and what clients do, is seen on the page without a reload.
 */
import assert from "node:assert/strict";
import {
  browser,
  DESKTOP,
  screenshot,
  WatchedBrowser,
} from "../support/browser.ts";
import { kubeService, kubeSlice, KubeWriter } from "../support/kube_objects.ts";
import { freePort, startKubePortal } from "../support/kube_portal.ts";
import {
  connect,
  hear,
  httpEndpoints,
  loopbackRange,
  say,
} from "../support/loopback.ts";
import { testWith } from "../support/needs.ts";

testWith(
  [browser],
  "the dashboard follows the cluster and its clients live",
  async () => {
    const range = loopbackRange();
    const [api, metrics] = [freePort(), freePort()];
    await using apiserver = startKubePortal([
      "apiserver",
      `--port=${api}`,
      `--service-cidr=${range}.0.0/17`,
    ]);
    await apiserver.waitFor("nothing is kept when it ends");
    const writer = new KubeWriter(`http://127.0.0.1:${api}`);
    await using endpoints = httpEndpoints("web", [
      `${range}.200.1`,
      `${range}.200.2`,
    ]);
    const ip = `${range}.1.1`;
    const ports = { http: endpoints.port };
    await writer.create(kubeService("web", ip, { http: 8080 }));
    await using _proxy = startKubePortal([
      `--master=http://127.0.0.1:${api}`,
      "--steer=none",
      "--healthz-bind-address=",
      `--metrics-bind-address=127.0.0.1:${metrics}`,
    ]);
    await _proxy.waitFor(/ Ready/);
    await using chromium = await WatchedBrowser.start();
    const page = await chromium.open(`http://127.0.0.1:${metrics}/`, DESKTOP);
    const row = page.locator("tr.port", { hasText: "default/web" });
    await row.click();
    await page.getByText("without an endpoint there is no listener").waitFor();

    await writer.create(kubeSlice("web", endpoints.addresses, ports));
    await row.locator(".state.ready", { hasText: "2" }).waitFor();
    await page.locator(".fan li").nth(1).waitFor();
    await page.locator("#events", {
      hasText: `added service port default/web:http ${ip}:8080/TCP`,
    }).waitFor();

    using client = await connect(ip, 8080);
    await say(client, "GET / HTTP/1.1\r\nHost: web\r\n\r\n");
    assert.match(await hear(client), /web-\d/);
    await row.locator(".open", { hasText: /^1$/ }).waitFor();
    await page.locator(".fan", { hasText: "1 open" }).waitFor();
    await screenshot(page, "live");

    await writer.delete(kubeSlice("web", endpoints.addresses, ports));
    await row.getByText("none").waitFor();
    // Its connection goes on.
    await page.locator(".detail .state.draining").first().waitFor();
    await page.close();
  },
);
