/** Where two processes may listen on one address, and how the old one leaves. */
import assert from "node:assert/strict";
import { PortSharing } from "../../proxy/port_sharing.ts";

const MODULE = new URL("../../proxy/port_sharing.ts", import.meta.url).href;

Deno.test("PortSharing is on where it was asked for, and can be had", () => {
  assert.equal(new PortSharing(false).isOn, false);
  assert.equal(new PortSharing(true).isOn, Deno.build.os === "linux");
  // Deno would end the process for a socket that is shared.
  const { stdout } = new Deno.Command(Deno.execPath(), {
    args: [
      "eval",
      "--no-config",
      `import { PortSharing } from ${JSON.stringify(MODULE)};
      console.log(new PortSharing(true).isOn);`,
    ],
  }).outputSync();
  assert.equal(new TextDecoder().decode(stdout), "false\n");
});

Deno.test("PortSharing leaves every listener, and knows whether some are here", async () => {
  const sharing = new PortSharing(true);
  const left: string[] = [];
  const listener = (name: string) => ({
    leave() {
      left.push(name);
      return Promise.resolve();
    },
  });
  assert.equal(sharing.isUsedHere, false);
  sharing.opened(listener("portal"), { namespace: "/run/netns/kube-portal" });
  assert.equal(sharing.isUsedHere, false);
  const closed = sharing.opened(listener("closed"), {});
  sharing.opened(listener("node"), {});
  assert.equal(sharing.isUsedHere, true);
  closed();
  await sharing.leave();
  assert.deepEqual(left, ["portal", "node"]);
});
