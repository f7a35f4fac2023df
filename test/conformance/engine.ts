/**
 * What every engine must do, run against real sockets on loopback. An engine
 * that cannot do something says so, with the reason, and the runner shows it.
 *
 * @module
 */
import type {
  EndpointAddress,
  Engine,
  Forwarder,
  ForwardingPolicy,
  ListenOptions,
} from "../../proxy/engine/engine.ts";
import type { Clock } from "../../watch/clock.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { sleep, within } from "../support/tcp.ts";
import { ejectionTests } from "./engine_ejection.ts";
import { endpointTests } from "./engine_endpoints.ts";
import { faultTests } from "./engine_faults.ts";
import { lifeTests } from "./engine_life.ts";
import { policyTests } from "./engine_policies.ts";
import { streamTests } from "./engine_streams.ts";
import { udpTests } from "./engine_udp.ts";
import { udpRefusalTests } from "./engine_udp_refusals.ts";
import { udpUpdateTests } from "./engine_udp_updates.ts";

/** What a test may ask of an engine; milliseconds. */
export interface EngineSettings {
  readonly dialTimeoutsMs?: readonly number[];
  readonly lingerMs?: number;
  readonly udpTimeoutMs?: number;
  readonly udpFlowsPerPortMax?: number;
  readonly udpFlowsMax?: number;
  /** The system's unless given. */
  readonly clock?: Clock;
}

/** An engine may have threads to start, and to end. */
export type TestedEngine =
  & Engine
  & Partial<AsyncDisposable>
  & { readonly ready?: Promise<void> };

export interface EngineConformance {
  /** Begins the name of each test. */
  readonly name: string;
  /** Called for each test; disposed after it if it can be. */
  readonly createEngine: (settings: EngineSettings) => TestedEngine;
  /** It has a clock of its own, that no test can set. */
  readonly hasOwnTime?: boolean;
  /** Where its datagrams cannot be sent, as the kernel says at once. */
  readonly unsendable: EndpointAddress;
  /** Undefined if the engine can run here, else why not. */
  readonly missing?: string | undefined;
  readonly skip?: readonly {
    readonly reason: string;
    /** Names, without the engine's. */
    readonly tests: readonly string[];
  }[];
}

/** What a test is given. */
export interface EngineUnderTest {
  /** Where its datagrams cannot be sent, as the kernel says at once. */
  readonly unsendable: EndpointAddress;
  /** A forwarder of TCP to these endpoints; closed after the test. */
  forwarder(
    endpoints: readonly EndpointAddress[],
    settings?: EngineSettings,
  ): Forwarder;
  /** Forwarders of one engine, closed after the test. */
  forwarders(
    policies: readonly ForwardingPolicy[],
    settings?: EngineSettings,
  ): Forwarder[];
  /** A forwarder of this policy, and one listener on 127.0.0.1 (or `ip`). */
  serve(
    policy: ForwardingPolicy,
    options?: Partial<ListenOptions> & {
      readonly ip?: string;
      readonly clusterSources?: readonly string[];
    },
  ): Promise<Serving>;
  /** The same, with one listener on 127.0.0.1 (or `ip`). */
  listen(
    endpoints: readonly EndpointAddress[],
    settings?: EngineSettings & { readonly ip?: string },
  ): Promise<
    { readonly forwarder: Forwarder; readonly address: EndpointAddress }
  >;
  /** How time passes for an engine made with its settings. */
  time(): TestTime;
  /** Resolves when what an engine makes once is made: descriptors, threads. */
  started(): Promise<void>;
}

/** Faked where that is possible, else waited for. */
export interface TestTime {
  readonly settings: EngineSettings;
  /** What is to be a time-out in the test. */
  readonly unitMs: number;
  /** How often something that takes time is worth repeating. */
  readonly rounds: number;
  /** @param units may be a fraction */
  pass(units: number): Promise<void>;
}

export interface Serving {
  readonly engine: Engine;
  readonly forwarder: Forwarder;
  readonly address: EndpointAddress;
}

export interface EngineTest {
  readonly name: string;
  readonly limitMs?: number;
  /** Undefined if the machine has what the test needs, else why not. */
  readonly missing?: string | undefined;
  readonly run: (engine: EngineUnderTest) => Promise<void>;
}

const LIMIT_MS = 30_000;

/** A busy machine must not look like an endpoint that does not answer. */
const PATIENT: EngineSettings = { dialTimeoutsMs: [20_000, 20_000] };

/** Registers the tests. */
export function runEngineConformance(suite: EngineConformance): void {
  const tests = [
    ...streamTests,
    ...endpointTests,
    ...ejectionTests,
    ...faultTests,
    ...policyTests,
    ...lifeTests,
    ...udpTests,
    ...udpRefusalTests,
    ...udpUpdateTests,
  ];
  const reasons = skipReasons(suite, tests);
  for (const test of tests) {
    const reason = suite.missing ?? reasons.get(test.name) ?? test.missing;
    Deno.test({
      name: `${suite.name}: ${test.name}` +
        (reason === undefined ? "" : ` [skipped: ${reason}]`),
      ignore: reason !== undefined,
      fn: () => runOne(suite, test),
    });
  }
}

function skipReasons(
  suite: EngineConformance,
  tests: readonly EngineTest[],
): ReadonlyMap<string, string> {
  const reasons = new Map<string, string>();
  for (const { reason, tests: names } of suite.skip ?? []) {
    for (const name of names) {
      if (!tests.some((test) => test.name === name)) {
        throw new RangeError(`Cannot skip "${name}": there is no such test`);
      }
      reasons.set(name, reason);
    }
  }
  return reasons;
}

async function runOne(
  suite: EngineConformance,
  test: EngineTest,
): Promise<void> {
  const engines: TestedEngine[] = [];
  const forwarders: Forwarder[] = [];
  const under: EngineUnderTest = {
    unsendable: suite.unsendable,
    forwarder(endpoints, settings = {}) {
      return under.forwarders([policy(endpoints)], settings)[0]!;
    },
    forwarders(policies, settings = {}) {
      const engine = suite.createEngine({ ...PATIENT, ...settings });
      engines.push(engine);
      const made = policies.map((policy) => engine.forwarder(policy));
      forwarders.push(...made);
      return made;
    },
    async serve(policy, { ip = "127.0.0.1", clusterSources, ...options } = {}) {
      const engine = suite.createEngine(PATIENT);
      engines.push(engine);
      if (clusterSources !== undefined) {
        engine.setClusterSources(clusterSources);
      }
      const forwarder = engine.forwarder(policy);
      forwarders.push(forwarder);
      const { address } = await forwarder.listen(
        { ip, port: 0 },
        { ...INTERNAL, ...options },
      );
      return { engine, forwarder, address };
    },
    async listen(endpoints, settings = {}) {
      const forwarder = under.forwarder(endpoints, settings);
      const { address } = await forwarder.listen({
        ip: settings.ip ?? "127.0.0.1",
        port: 0,
      }, INTERNAL);
      return { forwarder, address };
    },
    time: () => suite.hasOwnTime === true ? realTime() : fakeTime(),
    async started() {
      for (const engine of engines) await engine.ready;
    },
  };
  try {
    await within(test.limitMs ?? LIMIT_MS, test.run(under));
  } finally {
    for (const forwarder of forwarders) {
      await within(LIMIT_MS, forwarder.close(AbortSignal.abort()));
    }
    for (const engine of engines) await engine[Symbol.asyncDispose]?.();
  }
}

function fakeTime(): TestTime {
  const clock = new FakeClock();
  const unitMs = 32_000;
  const pass = (units: number) => clock.advance(units * unitMs);
  return { settings: { clock }, unitMs, rounds: 3, pass };
}

/** Long enough for a busy machine to be late by a third of it. */
function realTime(): TestTime {
  const unitMs = 1_200;
  const pass = (units: number) => sleep(units * unitMs);
  return { settings: {}, unitMs, rounds: 1, pass };
}

/** A policy for TCP: everyone gets the same endpoints, in turn. */
export function policy(
  endpoints: readonly EndpointAddress[],
  more: Partial<ForwardingPolicy> = {},
): ForwardingPolicy {
  return {
    name: "default/web:http",
    protocol: "TCP",
    endpoints: {
      internal: endpoints,
      external: endpoints,
      externalFromCluster: endpoints,
      serving: endpoints,
    },
    affinityMs: 0,
    balancer: "round-robin",
    maxConnectionAgeMs: 0,
    proxyProtocol: "none",
    ...more,
  };
}

/** How a listener on a ClusterIP is opened. */
export const INTERNAL: ListenOptions = { scope: "internal", sourceRanges: [] };
