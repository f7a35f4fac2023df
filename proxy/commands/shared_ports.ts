/**
 * Where this process may listen beside the one that it replaces, or that
 * replaces it: only with `--take-over`, and only where nobody is lost by it
 * (`../port_sharing.ts`). In: what the kernel says of each network namespace.
 *
 * @module
 */
import type { ListenAddress } from "../engine/engine.ts";
import type { NetworkNamespaces } from "../engine/network_namespaces.ts";
import { TCP_MIGRATE_REQ } from "../port_sharing.ts";
import { CommandError, type CommandRunner } from "../rules/command.ts";

export interface SharedPortsOptions {
  /** `--take-over`. */
  readonly takesOver: boolean;
  readonly namespaces: Pick<NetworkNamespaces, "readIn">;
  readonly runner: CommandRunner;
  readonly signal: AbortSignal;
}

/** Asks for the own namespace now, for others when something listens there. */
export async function sharedPorts(
  { takesOver, namespaces, runner, signal }: SharedPortsOptions,
): Promise<(address: ListenAddress) => boolean> {
  if (!takesOver) return () => false;
  const isSetHere = await readHere(runner, signal) === "1";
  const isSetIn = new Map<string, boolean>();
  return ({ namespace }) => {
    if (namespace === undefined) return isSetHere;
    const isSet = isSetIn.get(namespace) ?? readsOne(namespace, namespaces);
    isSetIn.set(namespace, isSet);
    return isSet;
  };
}

/** By `cat`: Deno reads nothing of /proc without every permission. */
async function readHere(
  runner: CommandRunner,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    return (await runner.run(["cat", TCP_MIGRATE_REQ], { signal })).trim();
  } catch (error) {
    if (error instanceof CommandError) return undefined;
    throw error;
  }
}

function readsOne(
  namespace: string,
  namespaces: SharedPortsOptions["namespaces"],
): boolean {
  try {
    return namespaces.readIn(namespace, TCP_MIGRATE_REQ).trim() === "1";
  } catch {
    // An older kernel.
    return false;
  }
}
