/**
 * The dashboard in a real Chromium. Each test also fails if the page writes an
 * error to the console (a violation of its Content-Security-Policy is one) or
 * asks anybody but its own server.
 */
import assert from "node:assert/strict";
import type { EndpointStats } from "../../proxy/engine/engine.ts";
import {
  browser,
  DESKTOP,
  PHONE,
  screenshot,
  WatchedBrowser,
} from "../support/browser.ts";
import { serveDashboard } from "../support/dashboard.ts";
import { testWith } from "../support/needs.ts";
import { service, slice } from "../support/objects.ts";
import { FakeSource } from "../support/status_source.ts";

const EVIL = '<img src=x onerror="document.title=1">';

/** A few Services of many kinds, some of them in trouble. */
function source(): FakeSource {
  const source = new FakeSource();
  const [web] = source.set(
    service("shop/frontend", {
      clusterIP: "10.96.10.1",
      type: "NodePort",
      sessionAffinity: "ClientIP",
      ports: [{ name: "http", port: 80, nodePort: 30_080 }],
    }),
    [slice("shop/frontend-1", {
      ports: [{ name: "http", port: 8080 }],
      endpoints: [
        { ip: "10.244.1.7", nodeName: "n1" },
        { ip: "10.244.2.4", nodeName: "n2" },
        {
          ip: "10.244.2.5",
          nodeName: "n2",
          ready: false,
          serving: true,
          terminating: true,
        },
        { ip: "10.244.2.6", nodeName: "n2", ready: false },
      ],
    })],
  );
  const counts = (connectionsOpen: number) => ({
    connectionsOpen,
    connectionsTotal: connectionsOpen * 9,
    dialFailures: 0,
  });
  web?.count({
    connectionsOpen: 31,
    connectionsTotal: 1_204,
    bytesToEndpoints: 512_000,
    bytesToClients: 88_400_000,
    endpoints: new Map<string, EndpointStats>([
      ["10.244.1.7:8080", counts(18)],
      ["10.244.2.4:8080", { ...counts(9), ejectedUntil: 1 }],
      ["10.244.2.5:8080", counts(3)],
      ["10.244.9.9:8080", counts(1)],
    ]),
  });
  const [dns] = source.set(
    service("kube-system/kube-dns", {
      clusterIP: "10.96.0.10",
      ports: [
        { name: "dns", port: 53, protocol: "UDP" },
        { name: "dns-tcp", port: 53 },
      ],
    }),
  );
  dns?.count({ connectionsOpen: 4, connectionsTotal: 912 });
  const [denied] = source.set(
    service("shop/legacy", { clusterIP: "10.96.10.9" }),
  );
  if (denied !== undefined) {
    const [address] = denied.addresses;
    denied.bindings = [];
    denied.failures = [{
      address: address!,
      reason: "another process has the port",
    }];
  }
  return source;
}

testWith(
  [browser],
  "the dashboard shows Services, the way of a connection and its endpoints at desktop width, light and dark",
  async () => {
    await using dashboard = serveDashboard(source());
    await using chromium = await WatchedBrowser.start();
    for (const dark of [false, true]) {
      const page = await chromium.open(dashboard.url, { ...DESKTOP, dark });
      await page.getByRole("button", { name: "shop/frontend" }).click();
      const states = await page.locator(".detail tbody").first().locator("tr")
        .allInnerTexts();
      assert.deepEqual(
        states.map((text) => text.split(/\s*[\t\n]+\s*/).slice(0, 3)),
        [
          ["10.244.1.7:8080", "ready, on this node", "18"],
          ["10.244.2.4:8080", "ejected", "9"],
          ["10.244.2.5:8080", "draining", "3"],
          ["10.244.2.6:8080", "not ready", "0"],
          ["10.244.9.9:8080", "draining", "1"],
        ],
      );
      const path = await page.locator(".path").innerText();
      assert.match(path, /31 open connections/);
      assert.match(path, /10\.96\.10\.1:80/);
      assert.match(path, /steered by route/);
      assert.match(path, /in turn; a client stays for 3 h/);
      assert.match(await page.locator("#tile-open").innerText(), /^35$/);
      assert.match(
        await page.locator("tr.port", { hasText: "legacy" }).innerText(),
        /not served/,
      );
      const background = await page.evaluate<string>(
        "getComputedStyle(document.body).backgroundColor",
      );
      const [red = 0] = background.match(/\d+/g)?.map(Number) ?? [];
      assert.equal(red < 60, dark, background);
      await screenshot(page, dark ? "desktop-dark" : "desktop-light");
      await page.close();
    }
  },
);

testWith(
  [browser],
  "the dashboard fits a phone: nothing is wider than the screen, and the chosen Service comes into sight",
  async () => {
    await using dashboard = serveDashboard(source());
    await using chromium = await WatchedBrowser.start();
    const page = await chromium.open(dashboard.url, PHONE);
    await page.getByRole("button", { name: "shop/frontend" }).click();
    await page.locator(".fan li").first().waitFor();
    const wide = await page.evaluate<number>(
      "document.documentElement.scrollWidth",
    );
    const top = (await page.locator("#detail").boundingBox())?.y ?? Infinity;
    assert.ok(wide <= PHONE.width, `${wide} px`);
    assert.ok(top < PHONE.height / 2, `${top} px`);
    await screenshot(page, "phone");
    await page.close();
  },
);

testWith(
  [browser],
  "the dashboard filters by name and address, and works without a mouse",
  async () => {
    await using dashboard = serveDashboard(source());
    await using chromium = await WatchedBrowser.start();
    const page = await chromium.open(dashboard.url);
    const names = () => page.locator("tr.port .service").allInnerTexts();
    await page.locator("tr.port").first().waitFor();
    await page.keyboard.press("/");
    await page.keyboard.type("FRONT");
    await page.locator("#shown", { hasText: "1 of 4 ports" }).waitFor();
    assert.deepEqual(await names(), ["shop/frontend"]);
    await page.keyboard.press("Control+A");
    await page.keyboard.type("10.96.0.10 dns-tcp");
    await page.locator("#shown", { hasText: "1 of 4 ports" }).waitFor();
    await page.locator("tr.port", { hasText: "dns-tcp" }).waitFor();
    assert.deepEqual(await names(), ["kube-system/kube-dns"]);
    await page.keyboard.press("Control+A");
    await page.keyboard.type("no such");
    await page.getByText("No Service port matches.").waitFor();
    await page.keyboard.press("Control+A");
    await page.keyboard.press("Delete");
    await page.locator("#shown", { hasText: /^4 ports$/ }).waitFor();
    await page.locator("tr.port").nth(3).waitFor();
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("ArrowDown");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "shop/frontend:http" }).waitFor();
    assert.equal(
      await page.locator('tr.port[aria-selected="true"] .service').innerText(),
      "shop/frontend",
    );
    assert.match(page.url(), /#shop%2Ffrontend/);
    await page.keyboard.press("Escape");
    assert.equal(await page.locator("#detail").isVisible(), false);
    await page.getByRole("button", { name: "Open" }).press("Enter");
    await page.locator("th[aria-sort]", { hasText: "Open" }).waitFor();
    await page.locator("tr.port").first().filter({ hasText: "frontend" })
      .waitFor();
    await page.close();
  },
);

testWith(
  [browser],
  "the dashboard shows hostile names as text",
  async () => {
    const hostile = new FakeSource();
    const [port] = hostile.set(
      service(`${EVIL}/${EVIL}`, { ports: [{ name: EVIL, port: 80 }] }),
      [slice(`${EVIL}/x-1`, {
        service: EVIL,
        ports: [{ name: EVIL, port: 80 }],
        endpoints: [{ ip: "10.0.0.1", nodeName: EVIL }],
      })],
    );
    port!.failures = [{ address: port!.addresses[0]!, reason: EVIL }];
    hostile.steers = { name: EVIL, description: EVIL, failures: new Map() };
    hostile.phases = { [EVIL]: { phase: "waiting", reason: EVIL } };
    await using dashboard = serveDashboard(hostile);
    dashboard.feed.add({
      time: 0,
      level: "error",
      module: EVIL,
      message: EVIL,
      properties: { [EVIL]: EVIL },
    });
    await using chromium = await WatchedBrowser.start();
    const page = await chromium.open(dashboard.url);
    await page.locator("tr.port button").click();
    await page.locator(".fan li").first().waitFor();
    await page.locator("#events li").first().waitFor();
    assert.equal(await page.title(), "kube-portal");
    assert.equal(await page.locator("img").count(), 1);
    assert.ok((await page.locator(".events").innerText()).includes(EVIL));
    assert.ok((await page.locator("#detail h2").innerText()).includes(EVIL));
    await page.close();
  },
);

testWith(
  [browser],
  "the dashboard draws the rows in sight of 10,000 Services, and hears only what changed",
  async () => {
    const many = new FakeSource();
    for (let index = 0; index < 10_000; index++) {
      many.set(service(`ns/service-${String(index).padStart(5, "0")}`, {
        clusterIP: `10.96.${index >> 8}.${index & 255}`,
      }));
    }
    await using dashboard = serveDashboard(many);
    await using chromium = await WatchedBrowser.start();
    const page = await chromium.open(dashboard.url);
    await page.locator("#shown", { hasText: /^10,000 ports$/ }).waitFor();
    const rows = page.locator("tr.port");
    assert.ok(await rows.count() < 60);
    await rows.first().locator("button").focus();
    await page.keyboard.press("End");
    await page.getByRole("button", { name: "ns/service-09999" }).waitFor();
    assert.ok(await rows.count() < 60);
    await page.locator("#filter").fill("10.96.39.15");
    await page.locator("#shown", { hasText: "1 of 10,000 ports" }).waitFor();
    await page.getByRole("button", { name: "service-09999" }).waitFor();
    const busy = [...many.served.values()].at(-1);
    busy?.count({ connectionsOpen: 7, connectionsTotal: 7 });
    await page.locator("tr.port .open", { hasText: /^7$/ }).waitFor();
    await page.close();
  },
);

testWith(
  [browser],
  "the dashboard shows no counts of what the kernel forwards, and says why",
  async () => {
    const kernel = source();
    kernel.engine = "kernel";
    kernel.mode = "nftables";
    await using dashboard = serveDashboard(kernel);
    await using chromium = await WatchedBrowser.start();
    const page = await chromium.open(dashboard.url);
    await page.getByRole("button", { name: "shop/frontend" }).click();
    await page.locator("#not-counted").waitFor({ state: "visible" });
    const path = page.locator(".path");
    await path.getByText("at random; a client stays for 3 h").waitFor();
    const text = await page.locator("main").innerText();
    assert.doesNotMatch(text, /Open connections|so far|per second|\d open/);
    assert.doesNotMatch(text, /listens on\n|nobody listens/);
    await screenshot(page, "kernel");
  },
);
