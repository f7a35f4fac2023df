/**
 * Where objects come from: an API server (watched, polled, or whatever turns
 * out to work) or a folder of manifests. The two look the same from here on, so
 * the rest of the program is three informers over either.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { ApiClient } from "./api.ts";
import type { Clock } from "./clock.ts";
import { followManifests, type ManifestObjects } from "./manifests.ts";
import { poll } from "./poller.ts";
import { Reachability } from "./reachability.ts";
import { reflect } from "./reflector.ts";
import {
  ENDPOINT_SLICES,
  nodeNamed,
  type Resource,
  SERVICES,
} from "./resource.ts";
import { ResourceClient } from "./resource_client.ts";
import { ServerHistory } from "./server_history.ts";
import { SourceMailbox } from "./source_mailbox.ts";
import { TroubleLog } from "./trouble_log.ts";
import type {
  ClusterObject,
  EndpointSlice,
  Node,
  Service,
  SourceEvent,
} from "./types.ts";

/** How an API server is followed; `auto` watches where that works. */
export type WatchMode = "auto" | "watch" | "poll";

/** How long `auto` polls before it tries a watch again. */
export const RETRY_WATCH_AFTER_MS = 300_000;

/** One stream for each kind; each is to be consumed once, and ends with the signal. */
export interface ClusterSource {
  readonly services: AsyncIterable<SourceEvent<Service>>;
  readonly endpointSlices: AsyncIterable<SourceEvent<EndpointSlice>>;
  /** The own Node: a list of one object, or of none. */
  readonly node: AsyncIterable<SourceEvent<Node>>;
}

export interface FollowOptions {
  readonly mode: WatchMode;
  /** Milliseconds between two lists while polling. */
  readonly pollIntervalMs: number;
  readonly signal: AbortSignal;
  /** @default {systemClock} */
  readonly clock?: Clock;
  /** @default {Math.random} */
  readonly random?: () => number;
  /** Shared by all that follow the same server. @default {its own} */
  readonly reachability?: Reachability;
  /** Shared likewise. @default {its own} */
  readonly history?: ServerHistory;
}

export interface ClusterSourceOptions extends FollowOptions {
  /** Name of the own Node, as `metadata.name`. */
  readonly nodeName: string;
}

export interface ManifestSourceOptions {
  /** Only the Node of this name is passed on. */
  readonly nodeName: string;
  readonly signal: AbortSignal;
  /** @default {systemClock} */
  readonly clock?: Clock;
}

const logger = getLogger("watch");

/** What an API server says; asks nothing before a stream is consumed. */
export function createClusterSource(
  client: ApiClient,
  options: ClusterSourceOptions,
): ClusterSource {
  const all = {
    ...options,
    reachability: new Reachability(options.clock),
    history: new ServerHistory(),
  };
  return {
    services: followResource(client, SERVICES, all),
    endpointSlices: followResource(client, ENDPOINT_SLICES, all),
    node: followResource(client, nodeNamed(options.nodeName), all),
  };
}

/** One resource of an API server, in the way `mode` says. */
export function followResource<T extends ClusterObject>(
  client: ApiClient,
  resource: Resource<T>,
  options: FollowOptions,
): AsyncGenerator<SourceEvent<T>, unknown> {
  const resourceClient = new ResourceClient(client, resource, options);
  switch (options.mode) {
    case "watch":
      return reflect(resourceClient, options);
    case "poll":
      return poll(resourceClient, {
        ...options,
        intervalMs: options.pollIntervalMs,
      });
    case "auto":
      return watchOrPoll(resourceClient, options);
  }
}

/**
 * All objects of one resource as they are now, asked for once.
 *
 * @throws {ApiError} the server refused
 * @throws {TypeError} the server cannot be reached, or its answer is no list
 */
export async function listResource<T extends ClusterObject>(
  client: ApiClient,
  resource: Resource<T>,
  signal: AbortSignal,
): Promise<T[]> {
  const { objects } = await new ResourceClient(client, resource).list(signal);
  return [...objects.values()];
}

async function* watchOrPoll<T extends ClusterObject>(
  client: ResourceClient<T>,
  options: FollowOptions,
): AsyncGenerator<SourceEvent<T>, void> {
  const trouble = new TroubleLog(logger, {
    resource: client.resource.name,
    server: client.server,
    pollIntervalMs: options.pollIntervalMs,
  });
  while (!options.signal.aborted) {
    const end = yield* reflect(client, { ...options, mayGiveUp: true });
    if (end === undefined) return;
    trouble.failed("Watching does not work here; polling instead", end.reason);
    yield* poll(client, {
      ...options,
      intervalMs: options.pollIntervalMs,
      forMs: RETRY_WATCH_AFTER_MS,
    });
  }
}

/**
 * What the manifests in `folder` say; the reading begins at once, and once for
 * all three streams.
 */
export function createManifestSource(
  folder: string,
  options: ManifestSourceOptions,
): ClusterSource {
  const services = new SourceMailbox<Service>();
  const endpointSlices = new SourceMailbox<EndpointSlice>();
  const node = new SourceMailbox<Node>();
  const all = [services, endpointSlices, node];
  const pump = async () => {
    try {
      for await (const event of followManifests(folder, options)) {
        if (event.type === "state") {
          for (const mailbox of all) mailbox.put(event);
          continue;
        }
        const { manifests } = event;
        services.put(replaced(manifests.services));
        endpointSlices.put(replaced(manifests.endpointSlices));
        node.put(replaced(manifests.nodes, options.nodeName));
      }
      for (const mailbox of all) mailbox.end();
    } catch (error) {
      for (const mailbox of all) mailbox.fail(error);
    }
  };
  pump();
  return { services, endpointSlices, node };
}

function replaced<T extends ClusterObject>(
  { objects, unreadable }: ManifestObjects<T>,
  name?: string,
): Extract<SourceEvent<T>, { type: "replaced" }> {
  const wanted = name === undefined
    ? [...objects.values()]
    : [...objects.values()].filter(({ metadata }) => metadata.name === name);
  return { type: "replaced", objects: wanted, unreadable };
}
