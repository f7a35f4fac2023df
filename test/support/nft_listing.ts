/**
 * A table as `nft list` prints it, in a form that can be compared: without
 * counters, handles and what clients have left in it, and in an order that is
 * the same for equal tables. The order of a chain's rules stays: it means
 * something.
 *
 * @module
 */

/** Name of each block (`map service-ips`) → its lines. */
export type NftListing = Readonly<Record<string, readonly string[]>>;

/** One table of a listing, or of the input of `nft -f`. */
export function nftListing(text: string, family: "ip" | "ip6"): NftListing {
  const start = text.indexOf(`table ${family} kube-proxy {\n`);
  if (start === -1) throw new RangeError(`No table of family ${family}`);
  const [header = "", ...lines] = text.slice(start).split("\n");
  const listing: Record<string, readonly string[]> = {};
  const top: string[] = [header];
  let block: string[] | undefined;
  for (const line of lines) {
    if (line === "}") break;
    if (/^\t\S.* \{$/.test(line)) {
      block = [];
      listing[line.trim().replace(" {", "")] = block;
    } else if (line === "\t}") block = undefined;
    else if (block !== undefined) block.push(line.trim());
    else if (line.trim() !== "") top.push(line.trim());
  }
  const canonical = Object.entries(listing).map((
    [name, inside],
  ) => [
    name,
    name.startsWith("chain ") ? ruleLines(inside) : setLines(inside),
  ]);
  return { table: top, ...Object.fromEntries(canonical) };
}

/** As a number, whatever it is called: `dstnat - 10`, `srcnat`. */
const PRIORITIES: Readonly<Record<string, number>> = {
  filter: 0,
  dstnat: -100,
  srcnat: 100,
};

function ruleLines(lines: readonly string[]): string[] {
  return lines.map((line) =>
    line.replace(/ counter packets \d+ bytes \d+/, "").replace(
      /priority (\w+)(?: ([-+]) (\d+))?;/,
      (whole, name: string, sign = "+", by = "0") =>
        name in PRIORITIES
          ? `priority ${(PRIORITIES[name] ?? 0) + Number(sign + by)};`
          : whole,
    )
  );
}

/** Elements, which may be on many lines, sorted, and the lines before them. */
function setLines(lines: readonly string[]): string[] {
  const at = lines.findIndex((line) => line.startsWith("elements = {"));
  const frame = (at === -1 ? lines : lines.slice(0, at))
    // What the kernel adds by itself to a set that rules add to.
    .filter((line) => line !== "size 65535")
    .map((line) => line.replace(/;$/, "").replace(/^timeout (.*)$/, seconds));
  // Clients come and go.
  if (at === -1 || frame.some((line) => line.startsWith("flags"))) return frame;
  const inside = lines.slice(at).join(" ").replace("elements = {", "")
    .replace(/\}$/, "");
  const elements = inside.split(",").map((each) => each.trim());
  return [...frame, ...elements.sort()];
}

const UNIT_SECONDS: Readonly<Record<string, number>> = {
  d: 86_400,
  h: 3600,
  m: 60,
  s: 1,
};

function seconds(_line: string, duration: string): string {
  const parts = duration.matchAll(/(\d+)([dhms])/g);
  const total = [...parts].reduce(
    (sum, [, count, unit = "s"]) =>
      sum + Number(count) * (UNIT_SECONDS[unit] ?? 1),
    0,
  );
  return `timeout ${total}s`;
}
