import assert from "node:assert/strict";
import { statusText } from "../../../proxy/commands/status_words.ts";
import type { PortStatus } from "../../../proxy/status/dashboard.ts";
import { StatusBoard } from "../../../proxy/status/status_board.ts";
import { service, slice } from "../../support/objects.ts";
import { FakeSource } from "../../support/status_source.ts";

function words(source: FakeSource): string {
  const board = new StatusBoard(source, () => source.now);
  board.refresh();
  const ports = board.changes().rows.map((port): PortStatus => ({
    ...port,
    endpoints: board.endpoints(port.row.id) ?? [],
  }));
  return statusText({ overview: board.overview(), ports });
}

Deno.test("statusText() has a row for each Service port, and names what is not served", () => {
  const source = new FakeSource();
  source.phases = {
    services: { phase: "waiting", reason: "API server away" },
    node: { phase: "watching" },
  };
  const [web] = source.set(
    service("ns/web", { ports: [{ name: "http", port: 80 }] }),
    [slice("ns/web-1", {
      ports: [{ name: "http", port: 8080 }],
      endpoints: [1, 2, 3, 4].map((n) => ({
        ip: `10.0.0.${n}`,
        ready: n !== 2,
      })),
    })],
  );
  web?.count({
    connectionsOpen: 2,
    connectionsTotal: 30,
    connectionsFailed: 1,
    bytesToClients: 12_340,
  });
  const [db] = source.set(service("ns/db", { clusterIP: "10.96.0.2" }));
  db!.bindings = [];
  db!.failures = [{ address: db!.addresses[0]!, reason: "in use\x1b[31m" }];
  assert.equal(
    words(source).replace(/ {2,}/g, "  "),
    `kube-portal v1.2.3 on n1, healthy, engine portable
Steering: route; 10.96.0.0/16 is routed to lo
WAITING: services: API server away
2 Services, 1 listener, 2 open connections, 30 in all

SERVICE PORT  ADDRESS           LISTENS ON  ENDPOINTS                                                    OPEN  TOTAL  FAILED  TO CLIENTS
ns/web:http   10.96.0.10:80/TCP  itself      10.0.0.1:8080 10.0.0.2:8080 (not ready) 10.0.0.3:8080 +1  2     30     1       12.3 kB
ns/db         10.96.0.2:80/TCP   nothing     none                                                        0      0     0           0 B

ns/db 10.96.0.2:80 is not served: in use?[31m
`.replace(/ {2,}/g, "  "),
  );
});

Deno.test("statusText() does not pass off what the kernel forwards as nothing", () => {
  const source = new FakeSource();
  source.engine = "kernel";
  source.mode = "nftables";
  source.set(service("default/web", { clusterIP: "10.96.0.10" }));
  const board = new StatusBoard(source, () => source.now);
  board.refresh();
  const ports = board.changes().rows.map((port) => ({
    ...port,
    endpoints: board.endpoints(port.row.id) ?? [],
  }));
  const text = statusText({ overview: board.overview(), ports });
  assert.match(text, /connections are the kernel's, and not counted/);
  assert.match(text, /default\/web.* the kernel +none +- +- +- +-$/m);
  assert.doesNotMatch(text, /listener|open connection/);
});
