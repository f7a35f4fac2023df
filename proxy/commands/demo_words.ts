/**
 * What the demo says: what listens where, and what to try.
 *
 * @module
 */
import type { HttpServer } from "../../watch/http/server.ts";
import { formatHostPort } from "../ip.ts";
import type { RunningProxy } from "./running_proxy.ts";
import { table } from "./terminal.ts";

/** A row for each Service port: its address, its listener, its endpoints. */
export function serviceTable(proxy: RunningProxy): string {
  const rows = [...proxy.ports()].map(({ state, bindings }) => {
    const { servicePort } = state;
    const address = formatHostPort(
      servicePort.clusterIP,
      servicePort.portNumber,
    );
    const listen = [...bindings].map(({ listen }) =>
      formatHostPort(listen.ip, listen.port)
    );
    return [
      servicePort.text,
      address,
      listen.join(" ") || "nothing (connection refused)",
      state.cluster.map((endpoint) => endpoint.key).join(" ") || "none",
    ];
  }).sort((a, b) => (a[0] ?? "") < (b[0] ?? "") ? -1 : 1);
  return table(["SERVICE PORT", "CLUSTER IP", "LISTENS ON", "ENDPOINTS"], rows);
}

/** Lines to paste into another terminal. */
export function tryThis(
  { proxy, apiserverUrl, health, metrics }: {
    proxy: RunningProxy;
    apiserverUrl: string;
    health: HttpServer["addr"] | undefined;
    metrics: HttpServer["addr"] | undefined;
  },
): string {
  const first = [...proxy.ports()].flatMap(({ bindings }) => [...bindings])
    .find(({ address }) => address.name.includes("addon-nexus-tcp-8081"));
  const web = first && formatHostPort(first.listen.ip, first.listen.port);
  const kubectl = `kubectl --server ${apiserverUrl}`;
  const lines = [
    "",
    "In another terminal:",
    `  curl http://${web}/                    # again and again: the endpoints take turns`,
    `  ${kubectl} get services,endpointslices`,
    `  ${kubectl} delete endpointslice addon-nexus-1   # then curl: refused at once`,
    ...health === undefined ? [] : [`  curl ${urlOf(health)}healthz`],
    "",
    ...metrics === undefined ? [] : [`Dashboard: ${urlOf(metrics)}`],
    "Ctrl-C ends it.",
    "",
  ];
  return lines.join("\n");
}

function urlOf({ hostname, port }: HttpServer["addr"]): string {
  return `http://${formatHostPort(hostname, port)}/`;
}
