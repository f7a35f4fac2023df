import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";

const ROOT = new URL("../", import.meta.url);

/** What a room may import: code and types, or only types. */
interface Rule {
  readonly code: readonly string[];
  readonly types?: readonly string[];
}

/**
 * A room is a folder, without those of its subfolders that are rooms; a package
 * is called by its name, and everything built in is `node`. A room may always
 * import itself, and log. What is not listed is not allowed.
 */
const MAY_IMPORT: Readonly<Record<string, Rule>> = {
  "main.ts": { code: ["proxy/commands", "node"] },
  "watch": { code: ["watch/std", "node"], types: ["kubernetes-types"] },
  "watch/std": { code: ["@logtape/logtape", "js-yaml"] },
  // An HTTP server: it has never heard of clusters, and serves whoever has an
  // app.
  "watch/http": { code: ["node"] },
  "watch/apiserver": {
    code: ["watch", "watch/std", "watch/http", "hono", "node"],
    types: ["kubernetes-types"],
  },
  "proxy": { code: ["node"], types: ["watch", "proxy/engine/engine.ts"] },
  "proxy/engine": { code: ["proxy", "node"], types: ["watch/clock.ts"] },
  "proxy/rules": {
    code: ["proxy", "node"],
    types: ["watch/clock.ts", "watch/types.ts", "proxy/engine/engine.ts"],
  },
  "proxy/handover": { code: ["proxy", "proxy/engine", "proxy/rules"] },
  "proxy/config": { code: ["proxy", "watch/std", "node"] },
  // Who may come in is decided in one place, for whoever asks.
  "proxy/explain": {
    code: ["proxy", "proxy/rules", "proxy/engine/admission.ts"],
    types: ["watch", "proxy/engine/engine.ts"],
  },
  "proxy/status": {
    code: ["proxy", "watch/http", "hono", "prom-client", "uplot", "node"],
    types: ["watch", "proxy/engine/engine.ts"],
  },
  // Instead of main.ts, where all of it is one file.
  "proxy/commands/single_file.ts": { code: ["main.ts", "proxy/engine"] },
  "proxy/commands": {
    code: [
      "watch",
      "watch/std",
      "watch/apiserver",
      "watch/http",
      "proxy",
      "proxy/engine",
      "proxy/rules",
      "proxy/config",
      "proxy/explain",
      "proxy/handover",
      "proxy/status",
      "hono",
      "node",
    ],
  },
};

/** No input or output, no clock, no Deno: the same answer every time. */
const PURE = [
  "proxy/address_claims.ts",
  "proxy/annotations.ts",
  "proxy/config/bind_addresses.ts",
  "proxy/config/configuration.ts",
  "proxy/config/duration_value.ts",
  "proxy/config/errors.ts",
  "proxy/config/fields.ts",
  "proxy/config/meaning.ts",
  "proxy/config/parse.ts",
  "proxy/config/port_range.ts",
  "proxy/config/validate.ts",
  "proxy/config/written.ts",
  "proxy/desired_state.ts",
  "proxy/distribution.ts",
  "proxy/duration.ts",
  "proxy/ejection.ts",
  "proxy/endpoint.ts",
  "proxy/explain/chain_walk.ts",
  "proxy/explain/course.ts",
  "proxy/explain/iptables_walk.ts",
  "proxy/explain/ipvs_walk.ts",
  "proxy/explain/mermaid.ts",
  "proxy/explain/mod.ts",
  "proxy/explain/nftables_walk.ts",
  "proxy/explain/packet.ts",
  "proxy/explain/picture.ts",
  "proxy/explain/problems.ts",
  "proxy/explain/target.ts",
  "proxy/explain/traverse.ts",
  "proxy/explain/userspace_walk.ts",
  "proxy/forwarding_policy.ts",
  "proxy/handover/messages.ts",
  "proxy/ip.ts",
  "proxy/listen_addresses.ts",
  "proxy/load_balancer.ts",
  "proxy/node_addresses.ts",
  "proxy/rotation.ts",
  "proxy/rules/iptables_rules.ts",
  "proxy/rules/iptables_text.ts",
  "proxy/rules/modes/ipvs/compile.ts",
  "proxy/rules/modes/ipvs/difference.ts",
  "proxy/rules/modes/ipvs/installed.ts",
  "proxy/rules/modes/ipvs/program.ts",
  "proxy/rules/modes/ipvs/rules.ts",
  "proxy/rules/modes/ipvs/rules_state.ts",
  "proxy/rules/modes/ipvs/set_rules.ts",
  "proxy/rules/modes/ipvs/sets.ts",
  "proxy/rules/modes/ipvs/text.ts",
  "proxy/rules/modes/iptables/base_chains.ts",
  "proxy/rules/modes/iptables/compile.ts",
  "proxy/rules/modes/iptables/endpoint_rules.ts",
  "proxy/rules/modes/iptables/names.ts",
  "proxy/rules/modes/iptables/program.ts",
  "proxy/rules/modes/iptables/service_rules.ts",
  "proxy/rules/modes/iptables/text.ts",
  "proxy/rules/modes/mode_input.ts",
  "proxy/rules/modes/nftables/base.ts",
  "proxy/rules/modes/nftables/base_chains.ts",
  "proxy/rules/modes/nftables/commands.ts",
  "proxy/rules/modes/nftables/compile.ts",
  "proxy/rules/modes/nftables/installed_table.ts",
  "proxy/rules/modes/nftables/listing.ts",
  "proxy/rules/modes/nftables/mark.ts",
  "proxy/rules/modes/nftables/matches.ts",
  "proxy/rules/modes/nftables/names.ts",
  "proxy/rules/modes/nftables/part_commands.ts",
  "proxy/rules/modes/nftables/port_chains.ts",
  "proxy/rules/modes/nftables/port_elements.ts",
  "proxy/rules/modes/nftables/port_parts.ts",
  "proxy/rules/modes/nftables/port_view.ts",
  "proxy/rules/modes/nftables/probe.ts",
  "proxy/rules/modes/nftables/program.ts",
  "proxy/rules/modes/nftables/table_parts.ts",
  "proxy/rules/modes/nftables/text.ts",
  "proxy/rules/nft_rules.ts",
  "proxy/rules/nft_state.ts",
  "proxy/rules/nft_text.ts",
  "proxy/rules/redirection.ts",
  "proxy/service_port.ts",
  "proxy/session_affinity.ts",
  "proxy/state_tracker.ts",
  "proxy/steering_pass.ts",
  "proxy/topology.ts",
  "proxy/write_pace.ts",
];

const TOP_LEVEL = [
  "LICENSE",
  "README.md",
  "deno.json",
  "deno.lock",
  "main.ts",
  "proxy",
  "test",
  "watch",
];

const LONGEST_SOURCE_LINES = 400;
const LONGEST_TEST_LINES = 600;

/** Paths below the root of every TypeScript file in a folder. */
function filesBelow(folder: string): string[] {
  const files: string[] = [];
  for (const entry of Deno.readDirSync(new URL(folder, ROOT))) {
    const path = `${folder}${entry.name}`;
    if (entry.isDirectory) files.push(...filesBelow(`${path}/`));
    else if (path.endsWith(".ts")) files.push(path);
  }
  return files.sort();
}

function read(path: string): string {
  return Deno.readTextFileSync(new URL(path, ROOT));
}

const sources = [...filesBelow("watch/"), ...filesBelow("proxy/")];
const entries = [...Deno.readDirSync(ROOT)].map((entry) => entry.name)
  .filter((name) => !name.startsWith("."));
if (entries.includes("main.ts")) sources.push("main.ts");

interface Import {
  readonly from: string;
  /** A path below the root, `npm:hono@4.0.0`, `node:net`. */
  readonly to: string;
  readonly isType: boolean;
}

interface Resolved {
  readonly specifier: string;
  readonly dependencies?: readonly {
    readonly code?: { readonly specifier?: string };
    readonly type?: { readonly specifier?: string };
  }[];
}

/** Every import of every source, told by `deno info`. */
async function imports(): Promise<Import[]> {
  const folder = await Deno.makeTempDir();
  try {
    const all = `${folder}/all.ts`;
    const lines = sources.map((path) => `import "${new URL(path, ROOT)}";`);
    await Deno.writeTextFile(all, lines.join("\n"));
    const { stdout, success } = await new Deno.Command(Deno.execPath(), {
      args: [
        "info",
        "--json",
        "--config",
        fileURLToPath(new URL("deno.json", ROOT)),
        all,
      ],
      stderr: "null",
    }).output();
    assert.ok(success);
    const { modules } = JSON.parse(new TextDecoder().decode(stdout)) as {
      modules: readonly Resolved[];
    };
    return modules.flatMap(importsOf);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function importsOf({ specifier, dependencies = [] }: Resolved): Import[] {
  const from = belowRoot(specifier);
  if (!sources.includes(from)) return [];
  return dependencies.flatMap(({ code, type }) => {
    const to = code?.specifier ?? type?.specifier;
    return to === undefined
      ? []
      : [{ from, to: belowRoot(to), isType: code === undefined }];
  });
}

function belowRoot(url: string): string {
  return url.startsWith(ROOT.href) ? url.slice(ROOT.href.length) : url;
}

function roomOf(path: string): string {
  const library = /^npm:\/?((?:@[^/]+\/)?[^/@]+)/.exec(path)?.[1];
  if (library !== undefined) return library;
  if (path.startsWith("node:")) return "node";
  const rooms = Object.keys(MAY_IMPORT).filter((room) =>
    path === room || path.startsWith(`${room}/`)
  );
  return rooms.sort((a, b) => b.length - a.length)[0] ?? path.split("/")[0] ??
    path;
}

function isAllowed({ from, to, isType }: Import): boolean {
  const [room, target] = [roomOf(from), roomOf(to)];
  if (target === room || to === "watch/std/log.ts" || to === "deno.json") {
    return true;
  }
  const rule = MAY_IMPORT[room];
  if (rule === undefined) return false;
  const lists = isType ? [...rule.code, ...rule.types ?? []] : rule.code;
  return lists.includes(target) || lists.includes(to);
}

function show({ from, to, isType }: Import): string {
  return `${from} imports ${isType ? "a type of " : ""}${to}`;
}

Deno.test("sources import only what is upstream of them", async () => {
  const found = await imports();
  assert.ok(found.length > sources.length / 2, "deno info told no imports");
  assert.deepEqual(found.filter((each) => !isAllowed(each)).map(show), []);
});

Deno.test("isAllowed() knows what is wrong", () => {
  const table: readonly [Import, boolean][] = [
    [{ from: "watch/store.ts", to: "proxy/ip.ts", isType: true }, false],
    [{ from: "watch/store.ts", to: "npm:/hono@4.0.0", isType: false }, false],
    [{ from: "watch/apiserver/a.ts", to: "npm:hono@4", isType: false }, true],
    [
      { from: "watch/store.ts", to: "watch/apiserver/a.ts", isType: true },
      false,
    ],
    [{ from: "proxy/ip.ts", to: "watch/types.ts", isType: true }, true],
    [{ from: "proxy/ip.ts", to: "watch/types.ts", isType: false }, false],
    [{ from: "proxy/ip.ts", to: "watch/std/log.ts", isType: false }, true],
    [{ from: "proxy/ip.ts", to: "watch/std/yaml.ts", isType: false }, false],
    [{ from: "proxy/ip.ts", to: "proxy/rules/mod.ts", isType: true }, false],
    [{ from: "proxy/ip.ts", to: "proxy/engine/engine.ts", isType: true }, true],
    [{ from: "proxy/ip.ts", to: "proxy/engine/tcp.ts", isType: true }, false],
    [{ from: "proxy/rules/a.ts", to: "proxy/ip.ts", isType: false }, true],
    [
      { from: "proxy/rules/a.ts", to: "proxy/status/a.ts", isType: true },
      false,
    ],
    [{ from: "proxy/ip.ts", to: "proxy/commands/a.ts", isType: true }, false],
    [{ from: "main.ts", to: "proxy/commands/run.ts", isType: false }, true],
    [{ from: "main.ts", to: "proxy/ip.ts", isType: false }, false],
    [{ from: "proxy/ip.ts", to: "test/support/needs.ts", isType: true }, false],
    [{ from: "proxy/ip.ts", to: "npm:fast-check@4", isType: false }, false],
  ];
  for (const [given, want] of table) {
    assert.equal(isAllowed(given), want, show(given));
  }
});

Deno.test("js-yaml, logtape and prom-client have one door each", async () => {
  const found: Record<string, string[]> = {};
  for (const { from, to } of await imports()) {
    const library = roomOf(to);
    if (!["js-yaml", "@logtape/logtape", "prom-client"].includes(library)) {
      continue;
    }
    const doors = found[library] ??= [];
    if (!doors.includes(from)) doors.push(from);
  }
  assert.deepEqual(found, {
    "@logtape/logtape": ["watch/std/log.ts"],
    "js-yaml": ["watch/std/yaml.ts"],
    "prom-client": ["proxy/status/metrics.ts"],
  });
});

Deno.test("the pure middle asks neither Deno nor a clock nor the network", () => {
  const impure =
    /\bDeno\.|\bDate\b|\bperformance\.|\bsetTimeout\b|\bfetch\(|\bMath\.random\b|\bcrypto\./;
  for (const path of PURE.filter((path) => sources.includes(path))) {
    const code = read(path).replaceAll(/\/\*[\s\S]*?\*\/|\/\/.*/g, "");
    assert.doesNotMatch(code, impure, path);
  }
});

Deno.test("every source says at its top what it is", () => {
  const without = sources.filter((path) => {
    const top = /^(?:#!.*\n)?\/\*\*[\s\S]*?\*\//.exec(read(path))?.[0] ?? "";
    return !top.includes("\n * @module\n");
  });
  assert.deepEqual(without, []);
});

Deno.test("no file needs a table of contents", () => {
  const lines = (path: string) => read(path).split("\n").length - 1;
  const long = [
    ...sources.filter((path) => lines(path) > LONGEST_SOURCE_LINES),
    ...filesBelow("test/").filter((path) => lines(path) > LONGEST_TEST_LINES),
  ];
  assert.deepEqual(long.map((path) => `${path}: ${lines(path)} lines`), []);
});

Deno.test("nothing is at the top level but what belongs there", () => {
  const made = read(".gitignore").split("\n")
    .map((line) => line.replaceAll("/", ""));
  const strange = entries.filter((name) =>
    !TOP_LEVEL.includes(name) && !made.includes(name)
  );
  assert.deepEqual(strange, []);
});

Deno.test("every HTTP port is served by watch/http, which no client can hold", () => {
  // The demo's pods: they stand for somebody else's programs.
  const without = ["proxy/commands/demo_samples.ts"];
  const serving = sources.filter((path) =>
    /\bDeno\.serve\(/.test(read(path)) && !without.includes(path)
  );
  assert.deepEqual(serving, []);
});
