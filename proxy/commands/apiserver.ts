/**
 * `kube-portal apiserver`: the embedded API server by itself, for kubectl, for
 * a proxy in another process, for playing.
 *
 * @module
 */
import { createApiServer, loadManifests } from "../../watch/apiserver/mod.ts";
import { listenApiserver } from "./addresses.ts";
import { checkFolder } from "./folders.ts";
import { APISERVER_FLAGS } from "./flag_tables.ts";
import { cidrList, parseFlags, wholeNumber } from "./flags.ts";
import { untilSignal } from "./signals.ts";
import { print, printError } from "./terminal.ts";
import { setupLogging } from "./verbosity.ts";

export async function apiserverCommand(
  args: readonly string[],
): Promise<number> {
  const flags = parseFlags(args, APISERVER_FLAGS);
  await setupLogging(flags);
  const port = wholeNumber(flags.port, { flag: "port", min: 0, max: 65535 });
  await using server = createApiServer({
    serviceCIDRs: cidrList(flags["service-cidr"], "service-cidr"),
    // Nobody writes a thousand times a second from one start to the next.
    firstRevision: Date.now(),
  });
  if (flags.manifests !== undefined) {
    await checkFolder(flags.manifests, "manifests");
    const { problems } = await loadManifests(server, flags.manifests);
    for (const problem of problems) {
      printError(`kube-portal: ${problem.message}\n`);
    }
  }
  await using listening = await listenApiserver(server, { port, flag: "port" });
  print(
    `API server for development on ${listening.url}; nothing is kept when it ends.

  kubectl --server ${listening.url} get services --all-namespaces
  kube-portal --master ${listening.url}
`,
  );
  await untilSignal();
  return 0;
}
