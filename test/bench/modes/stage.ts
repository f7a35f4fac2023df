/**
 * What a comparison of modes runs on: namespaces, endpoints, the load
 * generator, the client that waits for changes, and an API server.
 *
 * @module
 */
import type { Child } from "../../support/child.ts";
import { manifest } from "../../support/kube_objects.ts";
import { freePort } from "../../support/kube_portal.ts";
import { temporaryFolder } from "../../support/temporary_folder.ts";
import { Asked, Endpoints, Generator } from "../load/client.ts";
import type { Address } from "../load/sys.ts";
import { script } from "../subjects.ts";
import type { Change, Effect } from "./changes.ts";
import {
  ENDPOINT_IPS,
  type ModesNetwork,
  modesNetwork,
  SERVICE_CIDR,
} from "./network.ts";
import { nodeObject, servicesTo } from "./services.ts";

const API_TIMEOUT_MS = 60_000;

export interface ModesOptions {
  readonly modes: readonly string[];
  readonly sizes: readonly number[];
  readonly rounds: number;
  readonly windowMs: number;
  /** Of each kind, for each mode, after one that nobody sees. */
  readonly changes: number;
  /** No size is begun after so long. */
  readonly budgetMs: number;
  readonly progress: (text: string) => void;
}

/** All of it, at one size. */
export interface Stage {
  readonly options: ModesOptions;
  readonly network: ModesNetwork;
  readonly endpoints: Endpoints;
  readonly generator: Generator;
  readonly changer: Asked<Change, Effect>;
  /** Where the endpoints of changes listen. */
  readonly newPort: number;
}

/** One mode, or none, at one size. */
export interface Measured {
  readonly mode: string;
  readonly to: readonly Address[];
  /** Values by metric, in order of the rounds. */
  readonly values: Map<string, number[]>;
  readonly child?: Child;
}

/** Makes all of it, which ends with `stack`. */
export async function setStage(
  options: ModesOptions,
  stack: AsyncDisposableStack,
  modes: readonly string[],
): Promise<Stage> {
  const network = stack.use(await modesNetwork(modes));
  const { client, endpoint } = network;
  const endpoints = stack.use(await Endpoints.start(ENDPOINT_IPS, endpoint));
  const newPort = freePort();
  const whoami = stack.use(
    endpoint.start(script("modes/whoami.ts", String(newPort))),
  );
  await whoami.waitFor("Ready");
  const generator = stack.use(new Generator(client));
  const changer = stack.use(
    new Asked<Change, Effect>(script("modes/changes.ts"), client),
  );
  return { options, network, endpoints, generator, changer, newPort };
}

/** An API server with that many Services, and the nodes. */
export async function startApi(
  { network, endpoints, options }: Stage,
  services: number,
  stack: AsyncDisposableStack,
): Promise<string> {
  const folder = stack.use(await temporaryFolder());
  await folder.write(
    "objects.yaml",
    manifest(
      ...options.modes.map((mode) => nodeObject(mode, network.node(mode).ipv4)),
      ...servicesTo(endpoints.addresses, services),
    ),
  );
  const { ipv4 } = network.api;
  const port = String(freePort());
  const api = stack.use(network.api.start(
    script("modes/api_server.ts", ipv4, port, SERVICE_CIDR, folder.path),
  ));
  await api.waitFor("Ready", API_TIMEOUT_MS);
  return `http://${ipv4}:${port}`;
}
