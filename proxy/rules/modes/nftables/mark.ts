/**
 * The mark by which a table `kube-proxy` is known to be ours: an empty chain in a
 * table of its own (`nft list table ip kube-portal-mode`). In the table itself
 * it would be one thing that kube-proxy's does not have. It is written together
 * with every whole table, so that nothing removes one of them alone. Pure.
 *
 * @module
 */
import type { IpFamily } from "../../../ip.ts";
import { nftFamily } from "../../nft_rules.ts";
import { parseExisting } from "./listing.ts";

const MARK_TABLE = "kube-portal-mode";
const MARK_CHAIN = "nftables";

function spec(family: IpFamily): string {
  return `${nftFamily(family)} ${MARK_TABLE}`;
}

/** Does nothing where the mark is there. */
export function markCommands(family: IpFamily): string[] {
  return [
    `add table ${spec(family)} { comment "nftables mode of kube-portal"; }`,
    `add chain ${spec(family)} ${MARK_CHAIN}`,
  ];
}

/** Added before it is deleted: only what is there can be. */
export function unmarkCommands(family: IpFamily): string[] {
  return [`add table ${spec(family)}`, `delete table ${spec(family)}`];
}

/** @param listing of `nft -t list chains` */
export function isMarked(listing: string, family: IpFamily): boolean {
  return parseExisting(listing, spec(family)).chains.has(MARK_CHAIN);
}
