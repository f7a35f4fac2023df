/**
 * The iptables writer with the real programs of both kinds in a node's
 * namespace.
 */
import { CommandError, type CommandRunner } from "../../proxy/rules/command.ts";
import { IptablesWriter } from "../../proxy/rules/iptables_writer.ts";
import { testRulesWriter } from "../conformance/rules_writer.ts";
import { program } from "../support/needs.ts";
import type { Namespace } from "../support/netns.ts";

const FOREIGN_RULES = `*raw
:FOREIGN - [0:0]
-A PREROUTING -j FOREIGN
COMMIT
*mangle
-A PREROUTING -m comment --comment "KUBE-PORTALS-CONTAINER is not here" -j MARK --set-xmark 0x4000/0x4000
COMMIT
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "first \\"of all\\"" -j KUBE-SERVICES
-A KUBE-SERVICES -p udp -m udp --dport 9 -j RETURN
COMMIT
`;

for (const kind of ["nft", "legacy"] as const) {
  const programs = [`iptables-${kind}`, `ip6tables-${kind}`] as const;

  testRulesWriter({
    name: `iptables-${kind}`,
    needs: [program(`iptables-${kind}-restore`)],
    description: new RegExp(`^ip6?tables-${kind} \\(it is the only one\\)$`),
    newWriter: (family, runner) =>
      new IptablesWriter({ family, runner: only(kind, runner) }),
    async foreignRules(node) {
      for (const name of programs) {
        const stdin = FOREIGN_RULES;
        await node.run([`${name}-restore`, "--noflush"], { stdin });
      }
    },
    dump: (node) => dump(node, programs),
    async flush(node) {
      for (const name of programs) {
        for (const table of ["raw", "mangle", "filter", "nat"]) {
          await node.run([name, "-t", table, "-F"]);
          await node.run([name, "-t", table, "-X"]);
        }
      }
    },
  });
}

/** A machine with one kind of iptables. */
function only(kind: string, runner: CommandRunner): CommandRunner {
  return {
    run: (command, options) => {
      const [name] = command;
      if (!/^ip6?tables/.test(name) || name.includes(kind)) {
        return runner.run(command, options);
      }
      const cause = new Deno.errors.NotFound(name);
      throw new CommandError(`No ${name}`, { command, cause });
    },
  };
}

/** All rules without counters. Which table is first, is up to the moment. */
async function dump(
  node: Namespace,
  programs: readonly string[],
): Promise<string> {
  const texts = await Promise.all(
    programs.map((name) => node.run([`${name}-save`])),
  );
  return texts.map((text) => {
    const tables = text.replaceAll(/^#.*\n/gm, "")
      .replaceAll(/ \[\d+:\d+\]$/gm, "").split(/^(?=\*)/m);
    // A table that has nothing but its built-in chains is none.
    return tables.filter((table) => /^-A |^:.* -$/m.test(table)).sort()
      .join("");
  }).join("\n");
}
