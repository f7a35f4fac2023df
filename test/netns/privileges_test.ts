/**
 * The capabilities of the DaemonSet are the ones that are used: with each of
 * them taken away, the proxy ends or goes on with less, and says which one it
 * misses. That they are enough is `e2e/daemonset_test.ts`.
 */
import assert from "node:assert/strict";
import { CAPABILITIES } from "../../proxy/commands/daemonset_objects.ts";
import { program, testWith } from "../support/needs.ts";
import { netns } from "../support/netns.ts";
import { steeringStage, type StrategyName } from "../support/steering_stage.ts";

/** What it says without one, by strategy; it goes on where that is "Ready". */
const WITHOUT: readonly (readonly [
  StrategyName,
  missing: string,
  says: RegExp,
  goesOn: boolean,
])[] = [
  ["portal", "NET_ADMIN", /Cannot make a portal: needs CAP_NET_ADMIN/, false],
  ["portal", "SYS_ADMIN", /needs CAP_NET_ADMIN and CAP_SYS_ADMIN/, false],
  ["portal", "NET_BIND_SERVICE", /below 1024 need CAP_NET_BIND_SERVICE/, true],
  ["route", "NET_ADMIN", /Cannot add the local route .* CAP_NET_ADMIN/, false],
  ["route", "NET_BIND_SERVICE", /below 1024 need CAP_NET_BIND_SERVICE/, true],
  [
    "redirect, nft",
    "NET_ADMIN",
    /Cannot steer by redirect: .* CAP_NET_ADMIN/,
    false,
  ],
  [
    "redirect, iptables-nft",
    "NET_ADMIN",
    /Cannot steer by redirect: .* CAP_NET_ADMIN/,
    false,
  ],
  [
    "redirect, iptables-legacy",
    "NET_ADMIN",
    /needs CAP_NET_ADMIN and CAP_NET_RAW/,
    false,
  ],
  [
    "redirect, iptables-legacy",
    "NET_RAW",
    /needs CAP_NET_ADMIN and CAP_NET_RAW/,
    false,
  ],
];

for (const [strategy, missing, says, goesOn] of WITHOUT) {
  testWith(
    [netns, program("iptables"), program("nft")],
    `${strategy} without CAP_${missing} ${
      goesOn ? "serves what it can" : "ends"
    }, and says so`,
    async () => {
      await using stack = new AsyncDisposableStack();
      const stage = await steeringStage(stack, strategy);
      const bounding = CAPABILITIES[stage.steer]
        .filter((name) => name !== missing)
        .map((name) => `,+${name.toLowerCase()}`).join("");
      const proxy = stack.use(stage.commandWith(
        [
          "setpriv",
          "--no-new-privs",
          "--inh-caps=-all",
          `--bounding-set=-all${bounding}`,
        ],
        `--steer=${stage.steer}`,
        "--service-cidr=10.96.0.0/16,fd00:96::/112",
        "--hostname-override=node-1",
        "--healthz-bind-address=127.0.0.1:10256",
        `--manifests=${stage.manifests}`,
      ));
      await proxy.waitFor(says);
      if (goesOn) await proxy.waitFor(" Ready ");
      else assert.equal((await proxy.status).code, 1);
    },
  );
}
