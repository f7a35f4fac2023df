/**
 * A program for tests: looks a name up at one DNS server, as Deno's resolver
 * does it, and prints the addresses, or the error's name.
 *
 *     deno run dns_lookup.ts web.default.svc.cluster.local 10.96.0.53 53
 *
 * @module
 */
import { print } from "../../proxy/commands/terminal.ts";

const [name = "", ipAddr = "", port = "53"] = Deno.args;
try {
  const nameServer = { ipAddr, port: Number(port) };
  print((await Deno.resolveDns(name, "A", { nameServer })).join(" "));
} catch (error) {
  print(error instanceof Error ? error.name : String(error));
}
Deno.exit();
