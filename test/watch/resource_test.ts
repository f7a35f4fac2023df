import assert from "node:assert/strict";
import { ENDPOINT_SLICES, nodeNamed, SERVICES } from "../../watch/resource.ts";
import { node, service, slice } from "../support/objects.ts";

const OTHER_PROXY = "service.kubernetes.io/service-proxy-name";
const HEADLESS = "service.kubernetes.io/headless";
const SERVICE_NAME = "kubernetes.io/service-name";

Deno.test("[1.4] SERVICES leaves headless Services out, by selector and on arrival", () => {
  assert.equal(SERVICES.fieldSelector, "spec.clusterIP!=None");
  assert.ok(!SERVICES.selects(service("default/web", { clusterIP: "None" })));
  assert.ok(SERVICES.selects(service("default/web")));
});

Deno.test("[1.5, 12.29] SERVICES leaves Services of another proxy out, whatever the label's value", () => {
  assert.equal(SERVICES.labelSelector, `!${OTHER_PROXY}`);
  for (const value of ["other", ""]) {
    const labels = { [OTHER_PROXY]: value };
    const given = service("default/web", { metadata: { labels } });
    assert.ok(!SERVICES.selects(given), `"${value}"`);
  }
});

Deno.test("[1.6] SERVICES has Services labelled headless", () => {
  const metadata = { labels: { [HEADLESS]: "" } };
  assert.ok(SERVICES.selects(service("default/web", { metadata })));
});

Deno.test("[1.6, 2.5, 12.30] ENDPOINT_SLICES leaves slices labelled headless out, whatever the label's value", () => {
  assert.equal(ENDPOINT_SLICES.labelSelector, `!${HEADLESS}`);
  for (const value of ["true", ""]) {
    const labels = { [SERVICE_NAME]: "web", [HEADLESS]: value };
    const given = slice("default/web-1", { metadata: { labels } });
    assert.ok(!ENDPOINT_SLICES.selects(given), `"${value}"`);
  }
});

Deno.test("[1.7, 2.4] ENDPOINT_SLICES has slices labelled for another proxy, whoever made them", () => {
  const labels = {
    [SERVICE_NAME]: "web",
    [OTHER_PROXY]: "other",
    "endpointslice.kubernetes.io/managed-by": "me",
  };
  const given = slice("default/web-1", { metadata: { labels } });
  assert.ok(ENDPOINT_SLICES.selects(given));
});

Deno.test("[2.44] endpoints are read from discovery.k8s.io/v1", () => {
  assert.equal(
    ENDPOINT_SLICES.path,
    "/apis/discovery.k8s.io/v1/endpointslices",
  );
});

Deno.test("[5.62] nodeNamed() asks for the one Node", () => {
  const own = nodeNamed("n1");
  assert.equal(own.fieldSelector, "metadata.name=n1");
  assert.ok(own.selects(node("n1")));
  assert.ok(!own.selects(node("n2")));
});
