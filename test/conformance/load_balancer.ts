/**
 * What every load balancer must do, whatever its order.
 *
 * @module
 */
import assert from "node:assert/strict";
import fc from "fast-check";
import type { EndpointAddress } from "../../proxy/engine/engine.ts";
import { endpointKey, type LoadBalancer } from "../../proxy/load_balancer.ts";

export interface LoadBalancerConformance {
  readonly name: string;
  readonly createBalancer: (
    endpoints: readonly EndpointAddress[],
  ) => LoadBalancer;
}

/** Distinct endpoints, in any order. */
export const endpointLists: fc.Arbitrary<EndpointAddress[]> = fc.uniqueArray(
  fc.integer({ min: 1, max: 12 }),
  { maxLength: 12 },
).map((numbers) => numbers.map(endpoint));

export function endpoint(number: number): EndpointAddress {
  return { ip: `10.0.0.${number}`, port: 8080 };
}

export function client(number = 1): { ip: string; port: number } {
  return { ip: `10.1.0.${number}`, port: 40_000 + number };
}

export const NOTHING_TRIED: ReadonlySet<string> = new Set();

export function runLoadBalancerConformance(
  suite: LoadBalancerConformance,
): void {
  const { name, createBalancer } = suite;

  Deno.test(`${name}: without endpoints there is nothing to pick`, () => {
    const balancer = createBalancer([]);
    assert.equal(balancer.pick(client(), NOTHING_TRIED), undefined);
    balancer.update([endpoint(1)]);
    assert.deepEqual(balancer.pick(client(), NOTHING_TRIED), endpoint(1));
    balancer.update([]);
    assert.equal(balancer.pick(client(), NOTHING_TRIED), undefined);
  });

  Deno.test(`${name}: picks come from the last update, none that was tried`, () => {
    const step = fc.record({
      update: fc.option(endpointLists, { nil: undefined }),
      client: fc.integer({ min: 1, max: 4 }),
      tried: endpointLists,
    });
    fc.assert(fc.property(endpointLists, fc.array(step), (first, steps) => {
      const balancer = createBalancer(first);
      let endpoints: readonly EndpointAddress[] = first;
      for (const { update, client: number, tried } of steps) {
        if (update !== undefined) {
          balancer.update(update);
          endpoints = update;
        }
        const keys = new Set(tried.map(endpointKey));
        const allowed = endpoints.map(endpointKey)
          .filter((key) => !keys.has(key));
        const picked = balancer.pick(client(number), keys);
        if (picked === undefined) assert.deepEqual(allowed, []);
        else assert.ok(allowed.includes(endpointKey(picked)));
      }
    }));
  });

  Deno.test(`${name}: a connection that fails everywhere has tried everything`, () => {
    fc.assert(fc.property(endpointLists, (endpoints) => {
      const balancer = createBalancer(endpoints);
      const tried = new Set<string>();
      for (let count = 0; count < endpoints.length; count++) {
        tried.add(endpointKey(balancer.pick(client(), tried)!));
      }
      assert.deepEqual([...tried].sort(), endpoints.map(endpointKey).sort());
      assert.equal(balancer.pick(client(), tried), undefined);
    }));
  });
}
