/**
 * How a flow of a UDP ServicePort comes about. In: a client that has none, and
 * what its datagrams could not be sent to already. Out: a flow, its socket
 * connected to an endpoint; or nothing, said and counted, or put off until
 * there is a descriptor.
 *
 * @module
 */
import type { ClientAddress } from "../../load_balancer.ts";
import type { ForwardingPolicy } from "../engine.ts";
import { OWN_ADDRESS } from "../own_addresses.ts";
import type { FlowTable } from "../udp_flows.ts";
import type { Endpoint } from "./endpoint.ts";
import { errnoText, isExhausted } from "./errors.ts";
import { decodeSockaddr } from "./layouts.ts";
import { EPOLLIN } from "./libc.ts";
import type { UdpAccount } from "./udp_account.ts";
import type { EndpointChoice } from "./endpoint_choice.ts";
import { type FlowOwner, type UdpClient, UdpFlow } from "./udp_flow.ts";
import type { UdpHost } from "./udp_host.ts";
import { openFlowSocket } from "./udp_socket.ts";

export type Datagrams = readonly Uint8Array<ArrayBuffer>[];

/** What was tried already for a client's datagrams. */
export interface Tried {
  /** Endpoints that they could not be sent to. */
  readonly tried: ReadonlySet<string>;
  /** A flow was ended already to make room for theirs. */
  readonly madeRoom: boolean;
}

/** How a flow comes to be asked for. */
export interface Cause extends Tried {
  /** What it is for, if that has to wait. */
  readonly datagrams: () => Datagrams;
}

export interface UdpOpenerOptions {
  readonly host: UdpHost;
  readonly account: UdpAccount;
  readonly choice: EndpointChoice;
  readonly flows: FlowTable<UdpFlow>;
  readonly owner: FlowOwner;
  /** Has what had to wait for a descriptor delivered. */
  readonly deliver: (
    client: UdpClient,
    datagrams: Datagrams,
    tried: Tried,
  ) => void;
}

export class UdpOpener {
  policy: ForwardingPolicy;
  readonly #options: UdpOpenerOptions;

  constructor(policy: ForwardingPolicy, options: UdpOpenerOptions) {
    this.policy = policy;
    this.#options = options;
  }

  open(client: UdpClient, cause: Cause): UdpFlow | undefined {
    const { account, choice, host } = this.#options;
    const address = decodeSockaddr(client.sockaddr);
    if (cause.tried.size === 0 && !cause.madeRoom) account.arrived();
    const { clusterSources, ownAddresses } = host;
    const list = client.listener.admission.listFor(address.ip, clusterSources);
    if (list === undefined) {
      account.turnedAway(address, "its address is in no source range");
      return undefined;
    }
    if (this.policy.endpoints[list].length === 0) {
      account.turnedAway(address, `no endpoint for ${list} clients`);
      return undefined;
    }
    const tried = new Set(cause.tried);
    for (;;) {
      const endpoint = choice.pick(address, list, tried);
      if (endpoint === undefined) {
        account.failed("refused");
        return undefined;
      }
      // It would lead back here; then it counts as one that cannot be sent to.
      const opened = ownAddresses.has(endpoint.key)
        ? OWN_ADDRESS
        : this.#openTo(endpoint, client, { ...cause, tried });
      if (typeof opened !== "string") return opened;
      tried.add(endpoint.key);
      this.cannotSend(endpoint, address, opened);
    }
  }

  cannotSend(endpoint: Endpoint, client: ClientAddress, cause: string): void {
    const { account, choice } = this.#options;
    account.notSent(endpoint, cause);
    choice.failed(endpoint, client);
  }

  /** A flow; why this endpoint cannot have one; or undefined, if none can. */
  #openTo(
    endpoint: Endpoint,
    client: UdpClient,
    cause: Cause,
  ): UdpFlow | string | undefined {
    const { host, owner, flows, account, choice } = this.#options;
    const { libc, poller, reservedFrom } = host;
    const { fd, errno } = openFlowSocket(libc, endpoint.sockaddr);
    if (fd === -1) {
      if (!isExhausted(errno)) return errnoText(errno);
      return this.#makeRoom(client, cause, errnoText(errno));
    }
    const flow = new UdpFlow(client, {
      owner,
      endpoint,
      fd,
      tried: cause.tried,
      now: host.now(),
    });
    if (fd >= reservedFrom || !poller.add(fd, EPOLLIN, flow)) {
      libc.call.close(fd);
      return this.#makeRoom(client, cause, "few descriptors are left");
    }
    flows.add(flow);
    client.listener.flows.set(client.key, flow);
    account.opened();
    choice.dialled(endpoint);
    endpoint.opened();
    return flow;
  }

  /**
   * Out of descriptors: the oldest flow gives up its own, at the end of this
   * round. Only once for a datagram: what we freed, others may have taken.
   */
  #makeRoom(client: UdpClient, cause: Cause, why: string): undefined {
    const { account, host, deliver } = this.#options;
    const freed = cause.madeRoom ? undefined : host.limits.evictOldest();
    if (freed === undefined) {
      account.failed("exhausted", why);
      return undefined;
    }
    const datagrams = cause.datagrams();
    const { tried } = cause;
    host.afterRound(() =>
      deliver(client, datagrams, { tried, madeRoom: true })
    );
  }
}
