import assert from "node:assert/strict";
import {
  DEFAULT_FORWARDING,
  forwardingOptions,
} from "../../proxy/annotations.ts";
import { goDurationMs } from "../../proxy/duration.ts";
import { buildDesiredState } from "../../proxy/desired_state.ts";
import { forwardingPolicy } from "../../proxy/forwarding_policy.ts";
import { service } from "../support/objects.ts";

Deno.test("forwardingOptions() reads each annotation", () => {
  assert.deepEqual(
    forwardingOptions({
      "kube-portal.dev/balancer": "least-connections",
      "kube-portal.dev/max-connection-age": "1h30m",
      "kube-portal.dev/proxy-protocol": " v2 ",
      "example.com/balancer": "whatever",
    }),
    {
      options: {
        balancer: "least-connections",
        maxConnectionAgeMs: 5_400_000,
        proxyProtocol: "v2",
      },
      problems: [],
    },
  );
  assert.deepEqual(forwardingOptions({}), {
    options: DEFAULT_FORWARDING,
    problems: [],
  });
});

Deno.test("forwardingOptions() takes the default for what it cannot read, and says what is allowed", () => {
  const table: readonly [name: string, value: string, problem: string][] = [
    [
      "balancer",
      "random",
      'Annotation "kube-portal.dev/balancer" is ignored: "random" is not "round-robin" or "least-connections"',
    ],
    [
      "max-connection-age",
      "30",
      'Annotation "kube-portal.dev/max-connection-age" is ignored: "30" is not a duration such as "30m", or "0" for no limit, and at most 500h',
    ],
    [
      "max-connection-age",
      "501h",
      'Annotation "kube-portal.dev/max-connection-age" is ignored: "501h" is not a duration such as "30m", or "0" for no limit, and at most 500h',
    ],
    [
      "proxy-protocol",
      "v3",
      'Annotation "kube-portal.dev/proxy-protocol" is ignored: "v3" is not "v1" or "v2"',
    ],
    [
      "toString",
      "x",
      'Annotation "kube-portal.dev/toString" means nothing: known are "kube-portal.dev/balancer", "kube-portal.dev/max-connection-age", "kube-portal.dev/proxy-protocol"',
    ],
  ];
  for (const [name, value, problem] of table) {
    assert.deepEqual(
      forwardingOptions({ [`kube-portal.dev/${name}`]: value }),
      { options: DEFAULT_FORWARDING, problems: [problem] },
    );
  }
});

Deno.test("annotations reach the engine, for UDP as far as they can", () => {
  const annotations = {
    "kube-portal.dev/balancer": "least-connections",
    "kube-portal.dev/max-connection-age": "30m",
    "kube-portal.dev/proxy-protocol": "v1",
  };
  const ports = [
    { name: "tcp", protocol: "TCP" },
    { name: "udp", protocol: "UDP" },
  ] as const;
  const given = service("default/web", { ports, metadata: { annotations } });
  const state = buildDesiredState([given], {
    slices: [],
    node: { name: "n1", zone: "" },
  });
  const policies = state.get("default/web")?.ports.map((port) => {
    const { balancer, maxConnectionAgeMs, proxyProtocol } = forwardingPolicy(
      port,
    );
    return { balancer, maxConnectionAgeMs, proxyProtocol };
  });
  const balancer = "least-connections";
  assert.deepEqual(policies, [
    { balancer, maxConnectionAgeMs: 1_800_000, proxyProtocol: "v1" },
    { balancer, maxConnectionAgeMs: 0, proxyProtocol: "none" },
  ]);
});

Deno.test("[1.27] desired state says of an SCTP port and of a bad annotation what is wrong", () => {
  const ports = [{ protocol: "SCTP", port: 38_412 }, {
    protocol: "TCP",
  }] as const;
  const annotations = { "kube-portal.dev/balancer": "random" };
  const problems = (overrides: Parameters<typeof service>[1]) =>
    buildDesiredState([service("default/web", overrides)], {
      slices: [],
      node: { name: "n1", zone: "" },
    }).get("default/web")?.problems;
  const given = { ports, metadata: { annotations } };
  const said = problems(given) ?? [];
  assert.equal(said[0], "Port 38412/SCTP is not served: only TCP and UDP are");
  assert.equal(said.length, 2);
  assert.deepEqual(problems({ ...given, clusterIP: "None" }), []);
});

Deno.test("goDurationMs() reads what Go's ParseDuration reads", () => {
  const table: readonly [string, number | undefined][] = [
    ["0", 0],
    ["-0", 0],
    ["1.5h", 5_400_000],
    ["+5s", 5_000],
    [".5s", 500],
    ["1.s", 1_000],
    ["1m1.1s", 61_100],
    ["1h2m3s4ms5us6ns", 3_723_004.005006],
    ["3µs", 0.003],
    ["3μs", 0.003],
    ["", undefined],
    ["3", undefined],
    ["-1s", undefined],
    ["s", undefined],
    [".s", undefined],
    ["1d", undefined],
    ["1s ", undefined],
  ];
  for (const [text, want] of table) {
    assert.equal(goDurationMs(text), want, text);
  }
});
