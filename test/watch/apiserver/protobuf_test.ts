import assert from "node:assert/strict";
import fc from "fast-check";
import { createApiServer, StatusError } from "../../../watch/apiserver/mod.ts";
import { readProtobuf } from "../../../watch/apiserver/protobuf.ts";

/** What `kubectl create service nodeport web --tcp=80:http` sends. */
const CAPTURED = Uint8Array.fromBase64(
  "azhzAAoNCgJ2MRIHU2VydmljZRJrCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkQKHgoHODAtaHR0cBIDVENQGFAiCggBEAAaBGh0dHAoABIKCgNhcHASA3dlYhoAIghOb2RlUG9ydDoAQgBSAFoAYABoABoCCgAaACIA",
);

Deno.test("readProtobuf() reads what kubectl create service sends", () => {
  assert.deepEqual(readProtobuf(CAPTURED), {
    apiVersion: "v1",
    kind: "Service",
    metadata: { name: "web", labels: { app: "web" } },
    spec: {
      ports: [{
        name: "80-http",
        protocol: "TCP",
        port: 80,
        targetPort: "http",
      }],
      selector: { app: "web" },
      type: "NodePort",
    },
  });
});

Deno.test("POST takes protobuf, and answers with JSON", async () => {
  await using server = createApiServer();
  const url = "http://localhost/api/v1/namespaces/default/services";
  const response = await server.fetch(
    new Request(url, {
      method: "POST",
      headers: { "Content-Type": "application/vnd.kubernetes.protobuf" },
      body: CAPTURED,
    }),
  );
  assert.equal(response.status, 201);
  assert.equal((await response.json()).spec.ports[0].nodePort, 30000);
});

Deno.test("readProtobuf() refuses whatever is cut or changed, or reads it", () => {
  fc.assert(
    fc.property(
      fc.nat(CAPTURED.length - 1),
      fc.nat(255),
      fc.boolean(),
      (index, byte, cut) => {
        const bytes = cut
          ? CAPTURED.slice(0, index)
          : CAPTURED.with(index, byte);
        try {
          readProtobuf(bytes);
        } catch (error) {
          assert.ok(error instanceof StatusError, String(error));
          assert.equal(error.code, 400);
        }
      },
    ),
    { numRuns: 500 },
  );
});
