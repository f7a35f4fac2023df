import assert from "node:assert/strict";
import {
  staleFlows,
  udpTarget,
} from "../../../../proxy/rules/modes/stale_flows.ts";
import { inputOf } from "../../../support/mode_inputs.ts";
import { service, slice } from "../../../support/objects.ts";

const { ports } = inputOf({
  services: [
    service("default/dns", {
      type: "NodePort",
      externalIPs: ["198.51.100.1"],
      ports: [
        { name: "dns", port: 53, protocol: "UDP", nodePort: 30_053 },
        { name: "tcp", port: 53, protocol: "TCP" },
      ],
    }),
  ],
  slices: [
    slice("default/dns-1", {
      ports: [{ name: "dns", port: 5353, protocol: "UDP" }],
      endpoints: [
        "10.244.0.1",
        { ip: "10.244.0.2", ready: false, serving: true, terminating: true },
        { ip: "10.244.0.3", ready: false },
      ],
    }),
  ],
});
const targets = ports.map((port) => udpTarget(port))
  .filter((target) => target !== undefined);
const OPTIONS = { family: "IPv4", localIps: ["192.0.2.11"] } as const;

/** A flow of 10.9.0.9:4000 to `to`, answered by `by`. */
function flow(to: string, by: string): string {
  const [dst, dport] = to.split(":");
  const [src, sport] = by.split(":");
  return `udp 17 29 src=10.9.0.9 dst=${dst} sport=4000 dport=${dport} [UNREPLIED] src=${src} dst=10.9.0.9 sport=${sport} dport=4000 mark=0 use=1`;
}

Deno.test("[10.49, 10.50, 10.51] staleFlows() finds flows that something else than an endpoint answers", () => {
  assert.equal(targets.length, 1);
  const table: readonly [to: string, by: string, isStale: boolean][] = [
    ["10.96.0.10:53", "10.244.0.1:5353", false],
    // Terminating, and still serving.
    ["10.96.0.10:53", "10.244.0.2:5353", false],
    ["10.96.0.10:53", "10.244.0.3:5353", true],
    ["10.96.0.10:53", "10.244.0.1:5300", true],
    ["10.96.0.10:53", "10.96.0.10:53", true],
    ["198.51.100.1:53", "10.244.0.9:5353", true],
    ["10.96.0.11:53", "10.244.0.9:5353", false],
    ["10.96.0.10:54", "10.244.0.9:5353", false],
    ["192.0.2.11:30053", "10.244.0.9:5353", true],
    ["192.0.2.11:30053", "10.244.0.1:5353", false],
    // Somebody else's node port.
    ["192.0.2.12:30053", "192.0.2.12:30053", false],
  ];
  for (const [to, by, isStale] of table) {
    const [dst, dport] = to.split(":");
    assert.deepEqual(
      staleFlows(`${flow(to, by)}\n`, targets, OPTIONS),
      isStale
        ? [
          `-D -p udp -f ipv4 -s 10.9.0.9 --sport 4000 -d ${dst} --dport ${dport}\n`,
        ]
        : [],
      `${to} ${by}`,
    );
  }
});
