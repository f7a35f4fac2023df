/**
 * Exec credential plugins: small shell scripts in a temporary folder, and a
 * server that accepts what they print.
 *
 * @module
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { ConfigError, type ExecConfig } from "../../watch/api_config.ts";
import { ExecCredentials } from "../../watch/exec_credential.ts";
import { createApiClient } from "../../watch/client.ts";
import { Secret } from "../../watch/secret.ts";
import { FakeClock } from "../support/fake_clock.ts";
import { program, testWith } from "../support/needs.ts";
import {
  type TemporaryFolder,
  temporaryFolder,
} from "../support/temporary_folder.ts";
import { serveMutualTls, serveTls, tlsPath, tlsText } from "../support/tls.ts";

const NEEDS = [program("sh")];
const V1 = "client.authentication.k8s.io/v1";
const SECRET = "plug1n-secret";

function execConfig(
  command: string,
  more: Partial<ExecConfig> = {},
): ExecConfig {
  return {
    apiVersion: V1,
    command,
    args: [],
    env: {},
    interactiveMode: "Never",
    installHint: "",
    ...more,
  };
}

function plugin(folder: TemporaryFolder, script: string): Promise<string> {
  return folder.write("plugin", `#!/bin/sh\n${script}\n`, { mode: 0o755 });
}

/** A shell command that prints an ExecCredential with this status. */
function printing(status: Record<string, unknown>, apiVersion = V1): string {
  const credential = { apiVersion, kind: "ExecCredential", status };
  return `cat <<'END'\n${JSON.stringify(credential)}\nEND`;
}

/** Prints token-1, token-2, ... one more each time it runs. */
const COUNTING = `
echo run >> "$0.runs"
n=$(wc -l < "$0.runs" | tr -d ' ')
echo '{"apiVersion":"${V1}","kind":"ExecCredential","status":{"token":"token-'$n'"'"$1"'}}'`;

function credentials(
  config: ExecConfig,
  options: { clock?: FakeClock; signal?: AbortSignal; timeoutMs?: number } = {},
): ExecCredentials {
  return new ExecCredentials(config, {
    clock: options.clock ?? new FakeClock(),
    ca: { path: tlsPath("ca.crt") },
    signal: options.signal ?? new AbortController().signal,
    ...(options.timeoutMs !== undefined && { timeoutMs: options.timeoutMs }),
  });
}

const NEVER = new AbortController().signal;

testWith(
  NEEDS,
  "a plugin runs once for many requests, and again after a 401",
  async () => {
    await using folder = await temporaryFolder();
    const command = await plugin(folder, COUNTING);
    let accepted = "Bearer token-1";
    await using server = serveTls((request) =>
      new Response("", {
        status: request.headers.get("authorization") === accepted ? 200 : 401,
      })
    );
    using client = createApiClient({
      source: "test",
      server: server.url,
      ca: { path: tlsPath("ca.crt") },
      insecureSkipTlsVerify: false,
      credential: { type: "exec", exec: execConfig(command) },
    });
    const ask = async () => await (await client.request("/")).body?.cancel();
    await Promise.all([ask(), ask(), ask()]);
    await ask();
    accepted = "Bearer token-2";
    await Promise.all([ask(), ask()]);
    const runs = await Deno.readTextFile(`${command}.runs`);
    equal(runs, "run\nrun\n");
  },
);

testWith(
  NEEDS,
  "a plugin runs again once its credential has expired",
  async () => {
    await using folder = await temporaryFolder();
    const command = await plugin(folder, COUNTING);
    const clock = new FakeClock(Date.parse("2026-01-01T00:00:00Z"));
    const source = credentials(
      execConfig(command, {
        args: [`,"expirationTimestamp":"2026-01-01T00:10:00Z"`],
      }),
      { clock },
    );
    const token = async () =>
      (await source.current(NEVER)).authorization?.reveal();
    equal(await token(), "Bearer token-1");
    clock.jump(10 * 60_000 - 1);
    equal(await token(), "Bearer token-1");
    clock.jump(1);
    equal(await token(), "Bearer token-2");
  },
);

testWith(
  NEEDS,
  "a plugin is given its arguments, its variables and the cluster",
  async () => {
    await using folder = await temporaryFolder();
    const command = await plugin(
      folder,
      `printf '%s\\n' "$*" "$PROFILE" "$KUBERNETES_EXEC_INFO" > "$0.seen"
${printing({ token: "t" })}`,
    );
    const source = credentials(execConfig(command, {
      args: ["get", "token"],
      env: { PROFILE: new Secret("dev") },
      cluster: new Secret(`{"server":"https://h:6443","config":null}`),
    }));
    await source.current(NEVER);
    const [args, profile, info = ""] =
      (await Deno.readTextFile(`${command}.seen`)).split("\n");
    equal(args, "get token");
    equal(profile, "dev");
    deepEqual(JSON.parse(info), {
      apiVersion: V1,
      kind: "ExecCredential",
      spec: {
        interactive: false,
        cluster: {
          server: "https://h:6443",
          config: null,
          "certificate-authority-data": btoa(tlsText("ca.crt")),
        },
      },
    });
  },
);

testWith(NEEDS, "a plugin's certificate is shown to the server", async () => {
  await using folder = await temporaryFolder();
  const command = await plugin(
    folder,
    printing({
      clientCertificateData: tlsText("client.crt"),
      clientKeyData: tlsText("client.key"),
    }, `${V1}beta1`),
  );
  await using server = await serveMutualTls((_request, response) =>
    response.end("ok")
  );
  using client = createApiClient({
    source: "test",
    server: server.url,
    ca: { path: tlsPath("ca.crt") },
    insecureSkipTlsVerify: false,
    credential: {
      type: "exec",
      exec: execConfig(command, { apiVersion: `${V1}beta1` }),
    },
  });
  equal(await (await client.request("/")).text(), "ok");
});

testWith(
  NEEDS,
  "a caller that gives up leaves the plugin to the others",
  async () => {
    await using folder = await temporaryFolder();
    const command = await plugin(
      folder,
      `while [ ! -e "$0.go" ]; do sleep 0.02; done\n${
        printing({ token: "t" })
      }`,
    );
    const source = credentials(execConfig(command));
    const abort = new AbortController();
    const first = rejects(source.current(abort.signal), /not any more/);
    const second = source.current(NEVER);
    abort.abort(new Error("not any more"));
    await first;
    await folder.write("plugin.go", "");
    equal((await second).authorization?.reveal(), "Bearer t");
  },
);

testWith(
  NEEDS,
  "a plugin that is running is stopped with its client",
  async () => {
    await using folder = await temporaryFolder();
    const command = await plugin(folder, `echo > "$0.started"; exec sleep 60`);
    const stop = new AbortController();
    const source = credentials(execConfig(command), { signal: stop.signal });
    const ended = rejects(source.current(NEVER), /enough/);
    while (!await exists(`${command}.started`)) {
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
    stop.abort(new Error("enough"));
    await ended;
  },
);

testWith(
  NEEDS,
  "a plugin that does not answer in time is stopped, and told",
  async () => {
    await using folder = await temporaryFolder();
    const command = await plugin(folder, "exec sleep 60");
    const source = credentials(execConfig(command), { timeoutMs: 20 });
    await rejects(source.current(NEVER), {
      name: "ConfigError",
      message:
        `Cannot get credentials from "${command}": no answer within 0.02 s`,
    });
  },
);

async function exists(path: string): Promise<boolean> {
  try {
    await Deno.stat(path);
    return true;
  } catch {
    return false;
  }
}

const FAILURES: readonly {
  readonly name: string;
  readonly script: string;
  readonly want: RegExp;
  readonly config?: Partial<ExecConfig>;
}[] = [
  {
    name: "fails, by the last line of its error output, without its variables",
    script: `echo first >&2; echo "no login for $KEY" >&2; exit 3`,
    config: { env: { KEY: new Secret(SECRET) } },
    want: /: exit code 3: no login for \[secret\]$/,
  },
  {
    name: "prints no JSON, without repeating it",
    script: `echo ${SECRET}`,
    want: /: what it printed is not JSON$/,
  },
  {
    name: "prints another version",
    script: printing({ token: SECRET }, `${V1}beta1`),
    want: /: what it printed is not an ExecCredential of .*\/v1$/,
  },
  {
    name: "prints no credential",
    script: printing({}),
    want: /: it printed neither a token nor clientCertificateData$/,
  },
  {
    name: "prints a certificate without a key",
    script: printing({ clientCertificateData: SECRET }),
    want: /one of clientCertificateData and clientKeyData, want both$/,
  },
  {
    name: "prints a token no header can hold",
    script: printing({ token: `${SECRET}\nx` }),
    want: /it holds characters that no HTTP header may hold/,
  },
  {
    name: "prints an expiry that is no time",
    script: printing({ token: SECRET, expirationTimestamp: "soon" }),
    want: /: its expirationTimestamp is not an RFC 3339 time$/,
  },
];

for (const { name, script, want, config } of FAILURES) {
  testWith(NEEDS, `a ConfigError tells of a plugin that ${name}`, async () => {
    await using folder = await temporaryFolder();
    const source = credentials(
      execConfig(await plugin(folder, script), config),
    );
    await rejects(source.current(NEVER), (error: Error) => {
      ok(error instanceof ConfigError, String(error));
      match(error.message, want);
      equal(Deno.inspect(error).includes(SECRET), false, "secret told");
      return true;
    });
  });
}

Deno.test("a ConfigError tells of a plugin that is not installed, and how to get it", async () => {
  const source = credentials(
    execConfig("kube-portal-no-such-plugin", {
      installHint: "Install it with: make plugin",
    }),
  );
  await rejects(source.current(NEVER), {
    name: "ConfigError",
    message: 'Cannot get credentials from "kube-portal-no-such-plugin": ' +
      "there is no such program. Install it with: make plugin",
  });
});

Deno.test({
  name: "a ConfigError names the flag where Deno may not run a plugin",
  permissions: { run: false, read: true },
  async fn() {
    await rejects(credentials(execConfig("sh")).current(NEVER), {
      name: "ConfigError",
      message: 'Cannot get credentials from "sh": Deno denies to run it; ' +
        "add --allow-run=sh",
    });
  },
});

testWith(
  [() => Deno.stdin.isTerminal() ? "stdin is a terminal" : undefined],
  "a ConfigError tells of a plugin that must ask where nobody can answer",
  async () => {
    const config = execConfig("sh", { interactiveMode: "Always" });
    await rejects(credentials(config).current(NEVER), {
      name: "ConfigError",
      message: 'Cannot get credentials from "sh": it wants to ask you, but ' +
        "there is no terminal",
    });
  },
);
