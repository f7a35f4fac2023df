import assert from "node:assert/strict";
import { UserError } from "../../../proxy/commands/errors.ts";
import {
  durationMs,
  flagsHelp,
  parseFlags,
  portRange,
  wholeNumber,
} from "../../../proxy/commands/flags.ts";

const SPECS = {
  kubeconfig: { type: "string", value: "FILE", help: "Which cluster." },
  "proxy-mode": {
    type: "string",
    choices: ["iptables", "ipvs"],
    default: "iptables",
    help: "How.",
  },
  cleanup: { type: "boolean", help: "Remove everything." },
  masquerade: { type: "boolean", default: true, help: "Hide clients." },
  v: { type: "string", short: "v", value: "LEVEL", help: "How much to say." },
  help: { type: "boolean", short: "h", help: "Print this." },
} as const;

const DEFAULTS = {
  cleanup: false,
  help: false,
  masquerade: true,
  "proxy-mode": "iptables",
};

const parsed: readonly {
  args: readonly string[];
  want: Record<string, string | boolean>;
}[] = [
  { args: [], want: {} },
  { args: ["--kubeconfig=/k"], want: { kubeconfig: "/k" } },
  { args: ["--kubeconfig", "/k"], want: { kubeconfig: "/k" } },
  { args: ["--kubeconfig="], want: { kubeconfig: "" } },
  { args: ["--kubeconfig=a=b"], want: { kubeconfig: "a=b" } },
  { args: ["--kubeconfig=/a", "--kubeconfig=/b"], want: { kubeconfig: "/b" } },
  // Go takes the next argument for the value, whatever it looks like.
  { args: ["--kubeconfig", "-1"], want: { kubeconfig: "-1" } },
  { args: ["--kubeconfig", "--cleanup"], want: { kubeconfig: "--cleanup" } },
  {
    args: ["--kubeconfig", "--cleanup=false"],
    want: { kubeconfig: "--cleanup=false" },
  },
  { args: ["--kubeconfig", "-v=4"], want: { kubeconfig: "-v=4" } },
  { args: ["--cleanup"], want: { cleanup: true } },
  { args: ["--cleanup=true"], want: { cleanup: true } },
  { args: ["--cleanup=false"], want: { cleanup: false } },
  { args: ["--cleanup", "--cleanup=false"], want: { cleanup: false } },
  { args: ["--cleanup=T"], want: { cleanup: true } },
  { args: ["--cleanup=True"], want: { cleanup: true } },
  { args: ["--cleanup=1"], want: { cleanup: true } },
  { args: ["--masquerade=FALSE"], want: { masquerade: false } },
  { args: ["--masquerade=f"], want: { masquerade: false } },
  { args: ["--masquerade=0"], want: { masquerade: false } },
  { args: ["-v", "4"], want: { v: "4" } },
  { args: ["-v=4"], want: { v: "4" } },
  { args: ["-v4"], want: { v: "4" } },
  { args: ["--v=4"], want: { v: "4" } },
  { args: ["--v", "4"], want: { v: "4" } },
  { args: ["-h"], want: { help: true } },
  { args: ["--proxy-mode=ipvs"], want: { "proxy-mode": "ipvs" } },
  { args: ["--cleanup", "--"], want: { cleanup: true } },
];

for (const { args, want } of parsed) {
  Deno.test(`parseFlags() reads ${JSON.stringify(args)} as Go does`, () => {
    assert.deepEqual({ ...parseFlags(args, SPECS) }, { ...DEFAULTS, ...want });
  });
}

const refused: readonly [readonly string[], string][] = [
  [["--nope"], "Unknown flag --nope"],
  [["--nope=1"], "Unknown flag --nope"],
  [["-x"], "Unknown flag -x"],
  [["-x=1"], "Unknown flag -x"],
  [["--constructor=true"], "Unknown flag --constructor"],
  [["--no-kubeconfig"], "Unknown flag --no-kubeconfig"],
  [["run"], 'Unexpected argument "run"'],
  [["--cleanup", "false"], 'Unexpected argument "false"'],
  [["--", "--cleanup"], 'Unexpected argument "--cleanup"'],
  [["--kubeconfig"], "Flag --kubeconfig needs a value"],
  [["-v"], "Flag -v needs a value"],
  [
    ["--cleanup=maybe"],
    'Invalid value "maybe" for --cleanup: want true or false',
  ],
  [["--cleanup="], 'Invalid value "" for --cleanup: want true or false'],
  [
    ["--proxy-mode=ebpf"],
    'Invalid value "ebpf" for --proxy-mode: want iptables, ipvs',
  ],
];

for (const [args, message] of refused) {
  Deno.test(`parseFlags() refuses ${JSON.stringify(args)} in one sentence`, () => {
    assert.throws(() => parseFlags(args, SPECS), new UserError(message));
  });
}

Deno.test("flagsHelp() has a line for each flag, with choices and defaults", () => {
  const specs = {
    ...SPECS,
    empty: { type: "string", default: "", help: "E." },
  };
  assert.equal(
    flagsHelp(specs as typeof SPECS),
    [
      "  --kubeconfig FILE               Which cluster.",
      "  --proxy-mode iptables|ipvs      How. (default iptables)",
      "  --cleanup                       Remove everything.",
      "  --masquerade                    Hide clients. (default true)",
      "  -v, --v LEVEL                   How much to say.",
      "  -h, --help                      Print this.",
      "  --empty                         E.",
      "",
    ].join("\n"),
  );
});

Deno.test("flagsHelp() puts the words of a long flag on a line of their own", () => {
  const name = "a-flag-with-a-rather-long-name";
  assert.equal(
    flagsHelp({ [name]: { type: "string", value: "X", help: "Long." } }),
    `  --${name} X\n${" ".repeat(34)}Long.\n`,
  );
});

const durations: readonly [string, number][] = [
  ["0", 0],
  ["250ms", 250],
  ["2s", 2_000],
  ["1h30m", 5_400_000],
  ["1.5h", 5_400_000],
  ["1m1s1ms", 61_001],
  ["1.1m", 66_000],
  ["24h0m0s", 86_400_000],
];

Deno.test("durationMs() reads durations as Go writes them", () => {
  for (const [text, want] of durations) {
    assert.equal(durationMs(text, "f"), want, text);
  }
});

Deno.test("durationMs() refuses what is no duration, or a negative one", () => {
  for (const text of ["", "5", "s", "-1s", "1 s", "1s ", "1d", "1..5s", "x"]) {
    assert.throws(
      () => durationMs(text, "f"),
      new UserError(
        `Invalid value "${text}" for --f: want a duration such as 250ms, 2s or 1h30m`,
      ),
    );
  }
});

Deno.test("wholeNumber() reads a number within its range and refuses the rest", () => {
  const options = { flag: "port", min: 0, max: 65_535 };
  assert.equal(wholeNumber("0", options), 0);
  assert.equal(wholeNumber("65535", options), 65_535);
  for (const text of ["65536", "-1", "", "1.0", "1e3", "0x10", " 1", "١"]) {
    assert.throws(
      () => wholeNumber(text, options),
      new UserError(
        `Invalid value "${text}" for --port: want a whole number from 0 to 65535`,
      ),
    );
  }
});

Deno.test("portRange() reads ranges as kube-proxy writes them", () => {
  const table: readonly [
    string,
    { first: number; last: number } | undefined,
  ][] = [
    ["20000-29999", { first: 20_000, last: 29_999 }],
    [" 100+10 ", { first: 100, last: 110 }],
    ["", undefined],
    ["0", undefined],
    ["0-0", undefined],
  ];
  for (const [text, want] of table) {
    assert.deepEqual(portRange(text, "f"), want, text);
  }
  for (const text of ["80", "90-80", "0-10", "1-65536", "65535+1", "a-b"]) {
    assert.throws(
      () => portRange(text, "f"),
      new UserError(
        `Invalid value "${text}" for --f: want first-last, such as 20000-29999`,
      ),
    );
  }
});
