import assert from "node:assert/strict";
import {
  followServiceProblems,
  type ProblemSource,
  serviceProblems,
} from "../../../proxy/commands/service_events.ts";
import type { ListenFailure } from "../../../proxy/port_proxy.ts";
import type { HealthCheckFailure } from "../../../proxy/status/service_health.ts";
import type { ClusterEvent } from "../../../watch/mod.ts";
import { FakeClock } from "../../support/fake_clock.ts";

const ADDRESS = {
  ip: "192.0.2.7",
  port: 30_080,
  protocol: "TCP",
  kind: "NodePort",
  name: "default/web:http",
} as const;

function failure(kind: ListenFailure["kind"], reason: string): ListenFailure {
  return { address: ADDRESS, kind, reason };
}

const HEALTH: HealthCheckFailure = {
  check: {
    namespace: "default",
    name: "lb",
    family: "IPv4",
    port: 31_000,
    localEndpoints: 1,
  },
  ip: "192.0.2.7",
  reason: "the address and port are in use by another process",
};

/** A proxy of which only problems are known. */
class FakeProblems {
  readonly nodeName = "n1";
  unsupported: readonly string[] = [];
  failures: readonly ListenFailure[] = [];
  health: readonly HealthCheckFailure[] = [];
  readonly uids = new Map([["default/web", "1"], ["default/lb", "2"]]);

  get source(): ProblemSource & {
    serviceUid(key: string): string | undefined;
  } {
    const problems = () => this.unsupported;
    const failures = () => this.failures;
    return {
      nodeName: this.nodeName,
      state: new Map([["default/web", {
        key: "default/web",
        ports: [],
        get problems() {
          return problems();
        },
      }]]),
      // Of a whole PortProxy only these are read.
      ports: () =>
        [{
          state: { servicePort: { namespace: "default", name: "web" } },
          get failures() {
            return failures();
          },
        }] as unknown as ReturnType<ProblemSource["ports"]>,
      healthCheckFailures: () => this.health,
      serviceUid: (key) => this.uids.get(key),
    };
  }
}

Deno.test("[6.46] serviceProblems() tells owners what is theirs, in upstream's words where it has some", () => {
  const problems = new FakeProblems();
  problems.unsupported = ["Port 80/SCTP is not served"];
  problems.failures = [
    failure("conflict", '"default/other:http" has this address'),
    failure("taken", "the address and port are in use by another process"),
    failure("other", "the address is not local to this machine"),
  ];
  problems.health = [HEALTH];
  assert.deepEqual(
    [...serviceProblems(problems.source)].map((
      { service, reason, action, note },
    ) => [service, reason, action, note]),
    [
      ["default/web", "Unsupported", "Serve", "Port 80/SCTP is not served"],
      [
        "default/web",
        "AddressConflict",
        "Listen",
        'node n1 does not serve 192.0.2.7:30080/TCP: "default/other:http" has this address',
      ],
      [
        "default/web",
        "PortInUse",
        "Listen",
        "node n1 does not serve 192.0.2.7:30080/TCP: the address and port are in use by another process",
      ],
      [
        "default/lb",
        "FailedToStartServiceHealthcheck",
        "Listen",
        'node n1 failed to start healthcheck "default/lb" on port 31000: the address and port are in use by another process',
      ],
    ],
  );
});

Deno.test("followServiceProblems() records what lasts, again every 30 minutes, and what comes back", async () => {
  const clock = new FakeClock();
  const problems = new FakeProblems();
  const recorded: ClusterEvent[] = [];
  const stop = new AbortController();
  const following = followServiceProblems({
    proxy: problems.source,
    recorder: { record: (event) => void recorded.push(event) },
    clock,
    signal: stop.signal,
  });
  problems.health = [HEALTH, { ...HEALTH, ip: "127.0.0.1" }];
  await clock.advance(2_000);
  assert.equal(recorded.length, 0, "seen once");
  await clock.advance(2_000);
  assert.equal(recorded.length, 1, "seen twice, on two addresses");
  assert.deepEqual(recorded[0]?.subject, {
    apiVersion: "v1",
    kind: "Service",
    namespace: "default",
    name: "lb",
    uid: "2",
  });
  await clock.advance(29 * 60_000);
  assert.equal(recorded.length, 1);
  await clock.advance(60_000);
  assert.equal(recorded.length, 2, "an hour is all that it lasts");
  problems.health = [];
  await clock.advance(4_000);
  problems.health = [HEALTH];
  await clock.advance(6_000);
  assert.equal(recorded.length, 3, "gone, and back");
  problems.uids.delete("default/lb");
  await clock.advance(60 * 60_000);
  assert.equal(recorded.length, 3, "no Service, nobody to tell");
  stop.abort();
  await following;
});
