/**
 * How long a change takes to become true: from sending an EndpointSlice to the
 * API server until the first connection that the new endpoint accepts. The API
 * server, the proxy and the client are three processes, as in a cluster.
 *
 *     deno run -A test/bench/event_to_connection.ts --services 100
 *
 * Each sample replaces the only endpoint of one Service by one on an address
 * that no sample has used, then connects again and again until it is that
 * endpoint that answers.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { print, table } from "../../proxy/commands/terminal.ts";
import { percentiles } from "../support/percentiles.ts";
import { type Sample, sample, startCluster, startProxy } from "./cluster.ts";

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      services: { type: "string", default: "100" },
      samples: { type: "string", default: "200" },
    },
  });
  const services = Number(values.services);
  const samples = Number(values.samples);
  await using cluster = await startCluster(services);
  const { child, readyMs } = await startProxy(cluster);
  await using _proxy = child;
  print(
    `${services} Services, ${samples} samples, ready after ` +
      `${readyMs.toFixed(0)} ms\n\n`,
  );
  const results: Sample[] = [];
  for (let n = 0; n < samples; n++) results.push(await sample(cluster, n));
  print(table(["FROM SENDING A SLICE UNTIL", "P50", "P99", "MAX"], [
    [
      "the API server has answered",
      ...percentiles(results.map((s) => s.writtenMs)),
    ],
    [
      "a connection reaches the new endpoint",
      ...percentiles(results.map((s) => s.connectedMs)),
    ],
  ]));
}

if (import.meta.main) await main();
