import assert from "node:assert/strict";
import { CommandError } from "../../../proxy/rules/command.ts";
import { forgetUdpFlows } from "../../../proxy/rules/conntrack.ts";

const { signal } = new AbortController();

const FLOWS =
  `udp      17 29 src=10.244.0.2 dst=10.96.0.10 sport=4000 dport=53 src=169.254.107.1 dst=10.244.0.2 sport=20000 dport=4000 mark=0 use=1
udp      17 29 src=10.244.0.2 dst=10.96.0.11 sport=4001 dport=53 [UNREPLIED] src=10.96.0.11 dst=10.244.0.2 sport=53 dport=4001 mark=0 use=1
udp      17 29 src=10.244.0.3 dst=10.96.0.10 sport=4002 dport=5353 src=169.254.107.1 dst=10.244.0.3 sport=20001 dport=4002 mark=0 use=1
`;

function conntrack(list: string, error?: CommandError) {
  const runs: string[] = [];
  return {
    runs,
    run(command: readonly string[], { stdin = "" }: { stdin?: string }) {
      runs.push(`${command.join(" ")}\n${stdin}`);
      if (command.includes("-L")) return Promise.resolve(list);
      return error === undefined ? Promise.resolve("") : Promise.reject(error);
    },
  };
}

Deno.test("forgetUdpFlows() forgets the flows to these addresses, and no others", async () => {
  const runner = conntrack(FLOWS);
  const count = await forgetUdpFlows(
    [{ ip: "10.96.0.10", port: 53 }, { ip: "10.96.0.12", port: 53 }],
    { family: "IPv4", runner, signal },
  );
  assert.equal(count, 1);
  assert.deepEqual(runner.runs, [
    "conntrack -L -p udp -f ipv4\n",
    "conntrack -R -\n-D -p udp -f ipv4 -s 10.244.0.2 --sport 4000 -d 10.96.0.10 --dport 53\n",
  ]);
});

Deno.test("forgetUdpFlows() compares IPv6 addresses in one spelling", async () => {
  const runner = conntrack(
    "udp 17 29 src=fd00:244::2 dst=fd00:0096:0::a sport=1 dport=53 src=x dst=y sport=1 dport=2\n",
  );
  const to = [{ ip: "fd00:96::a", port: 53 }];
  const options = { family: "IPv6", runner, signal } as const;
  assert.equal(await forgetUdpFlows(to, options), 1);
});

Deno.test("forgetUdpFlows() runs nothing where there is nothing to forget", async () => {
  const options = { family: "IPv4", signal } as const;
  const none = conntrack(FLOWS);
  assert.equal(await forgetUdpFlows([], { ...options, runner: none }), 0);
  assert.deepEqual(none.runs, []);
  const other = conntrack(FLOWS);
  const to = [{ ip: "10.96.9.9", port: 53 }];
  assert.equal(await forgetUdpFlows(to, { ...options, runner: other }), 0);
  assert.equal(other.runs.length, 1);
});

Deno.test("forgetUdpFlows() does not mind a flow that ended meanwhile", async () => {
  const failure = (stderr: string) =>
    new CommandError("failed", { command: [], exitCode: 1, stderr });
  const to = [{ ip: "10.96.0.10", port: 53 }];
  const gone = conntrack(FLOWS, failure("0 flow entries have been deleted."));
  await forgetUdpFlows(to, { family: "IPv4", runner: gone, signal });
  const denied = conntrack(FLOWS, failure("you must be root"));
  await assert.rejects(
    forgetUdpFlows(to, { family: "IPv4", runner: denied, signal }),
    CommandError,
  );
});
