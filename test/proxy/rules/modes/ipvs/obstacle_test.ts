import assert from "node:assert/strict";
import { CommandError } from "../../../../../proxy/rules/command.ts";
import { ipvsObstacle } from "../../../../../proxy/rules/modes/ipvs/kernel.ts";

/** A machine where one program says this, and fails. */
function machine(
  program: string,
  stderr: string,
): Parameters<typeof ipvsObstacle>[1] {
  return {
    signal: new AbortController().signal,
    runner: {
      run(command) {
        // Our interface is not there yet.
        const isAsked = command.join(" ").includes("address show");
        if (!command.join(" ").startsWith(program) && !isAsked) {
          return Promise.resolve("");
        }
        throw new CommandError(`Cannot run "${command.join(" ")}"`, {
          command,
          exitCode: 1,
          stderr: isAsked ? 'Device "kube-ipvs0" does not exist.' : stderr,
        });
      },
    },
  };
}

Deno.test("[10.41] ipvs mode says in a sentence what this machine does not have", async () => {
  const table: readonly [program: string, stderr: string, want: string][] = [
    [
      "ipvsadm",
      "Can't initialize ipvs: Protocol not available\nAre you sure that IP Virtual Server is built in the kernel or as module?\n",
      'the kernel has no ip_vs: "modprobe ip_vs", or another --proxy-mode',
    ],
    [
      "ipvsadm",
      "Can't initialize ipvs: Permission denied (you must be root)\n",
      "needs CAP_NET_ADMIN (run as root)",
    ],
    [
      "ip link add",
      "Error: Unknown device type.\n",
      'the kernel has no dummy: "modprobe dummy", or another --proxy-mode',
    ],
    [
      "ipset",
      "ipset v7.17: Kernel error received: Operation not permitted\n",
      "needs CAP_NET_ADMIN (run as root)",
    ],
  ];
  for (const [program, stderr, want] of table) {
    assert.equal(await ipvsObstacle("IPv4", machine(program, stderr)), want);
  }
  assert.equal(await ipvsObstacle("IPv4", machine("nothing", "")), undefined);
});
