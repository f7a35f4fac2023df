/**
 * Finds out whether this kernel and this `nft` take the program, before there is
 * one: every kind of statement, in a table that is gone in the same transaction.
 * In: a family. Out: the commands.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";
import { baseTable } from "./base.ts";
import type { NftChain, NftTable } from "./program.ts";
import { tableText } from "./text.ts";

/** Never seen by a packet. */
const PROBE_TABLE = "kube-proxy-probe";

/** Input of `nft -f`, which leaves nothing behind. */
export function probeText(family: IpFamily): string {
  const table = probeTable(family);
  return `${tableText(table)}delete table ${table.family} ${table.name}\n`;
}

function probeTable(family: IpFamily): NftTable {
  const base = baseTable({
    family,
    nodePortIps: "all",
    localDetector: { kind: "none" },
    masqueradeAll: true,
    masqueradeBit: 14,
    serviceCidrs: [],
  });
  const ip = family === "IPv4" ? "192.0.2.1" : "2001:db8::1";
  const remembered = {
    name: "probe-affinity",
    type: [family === "IPv4" ? "ipv4_addr" : "ipv6_addr"],
    timeoutSeconds: 1,
    elements: [],
  };
  return {
    ...base,
    name: PROBE_TABLE,
    sets: [...base.sets, remembered],
    chains: [...base.chains, ...probeChains(ip, remembered.name)],
  };
}

function probeChains(ip: string, set: string): NftChain[] {
  const to = { ip, port: 1 };
  const isTcp = {
    kind: "match",
    fields: ["l4proto"],
    of: { values: ["tcp"] },
  } as const;
  const isLocal = {
    kind: "match",
    fields: ["saddr type"],
    of: { values: ["local"] },
  } as const;
  return [
    {
      name: "probe-endpoint",
      rules: [
        { statements: [{ kind: "remember-source", set }] },
        { statements: [isTcp, { kind: "dnat-to", to }] },
      ],
    },
    {
      name: "probe-service",
      rules: [
        {
          statements: [isLocal, {
            kind: "choose",
            verdicts: [{ verdict: "goto", chain: "probe-endpoint" }],
          }],
        },
        { statements: [isTcp, { kind: "dnat", to: [to, to] }] },
      ],
    },
  ];
}
