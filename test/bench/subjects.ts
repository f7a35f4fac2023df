/**
 * What is measured against each other: no proxy, our engines, and the peers
 * that this machine has. Each is a process with one listener on loopback that
 * forwards to the same endpoints, in turn.
 *
 * @module
 */
import { Child } from "../support/child.ts";
import { freePort, REPOSITORY } from "../support/kube_portal.ts";
import { findProgram } from "../support/needs.ts";
import { temporaryFolder } from "../support/temporary_folder.ts";
import { processTree } from "./load/cpu.ts";
import type { Address } from "./load/sys.ts";

/** Something that can be started to be measured. */
export interface Subject {
  readonly name: string;
  /** Whether it forwards UDP in a way that compares. */
  readonly udp: boolean;
  start(endpoints: readonly Address[]): Promise<Running>;
}

/** A subject that answers. */
export interface Running extends AsyncDisposable {
  /** Where to connect, in turn. */
  readonly to: readonly Address[];
  readonly pids: readonly number[];
}

const LOOPBACK = "127.0.0.1";
const START_TIMEOUT_MS = 10_000;

/** Starts what must not outlive this process, even if that is killed. */
export function startTied(command: readonly [string, ...string[]]): Child {
  const setpriv = findProgram("setpriv");
  if (setpriv === undefined) return new Child(command);
  return new Child([setpriv, "--pdeathsig", "KILL", ...command]);
}

/** The command line of a part of the benchmarks. */
export function script(
  name: string,
  ...args: string[]
): [string, ...string[]] {
  const path = `${REPOSITORY}test/bench/${name}`;
  return [Deno.execPath(), "run", "--quiet", "-A", path, ...args];
}

const DIRECT: Subject = {
  name: "direct",
  udp: true,
  start: (endpoints) =>
    Promise.resolve({
      to: endpoints,
      pids: [],
      async [Symbol.asyncDispose]() {},
    }),
};

function engine(name: string, kind: string, workers: number): Subject {
  return {
    name,
    udp: true,
    async start(endpoints) {
      const child = startTied(script(
        "subject.ts",
        kind,
        String(workers),
        String(endpoints[0]!.port),
        ...endpoints.map(({ ip }) => ip),
      ));
      const [, port] = await child.waitFor(/Ready on port (\d+)/);
      return running(child, [{ ip: LOOPBACK, port: Number(port) }]);
    },
  };
}

const ENGINES = [
  engine("portable", "portable", 1),
  engine("splice", "splice", 1),
  engine("splice, 2 workers", "splice", 2),
];

/** Where Debian puts nginx's modules, and where others compile them in. */
const STREAM_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so";

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** One worker; its buffers are its defaults. It has no splice for streams. */
const NGINX: Subject = {
  name: "nginx",
  udp: true,
  start(endpoints) {
    const port = freePort();
    const servers = endpoints.map(({ ip, port }) => `server ${ip}:${port};`);
    return startNginx(
      `
  upstream endpoints { ${servers.join(" ")} }
  server {
    listen ${LOOPBACK}:${port} backlog=4096;
    proxy_pass endpoints;
    proxy_timeout 1h;
  }
  server {
    listen ${LOOPBACK}:${port} udp;
    proxy_pass endpoints;
    proxy_timeout 60s;
  }`,
      [{ ip: LOOPBACK, port }],
    );
  },
};

/**
 * nginx with a listener on each of these addresses, to compare with as many
 * Services.
 */
export function startNginxAt(
  addresses: readonly Address[],
  endpoint: Address,
): Promise<Running> {
  const listen = addresses.map(({ ip, port }) => `listen ${ip}:${port};`);
  return startNginx(
    `
  server {
    ${listen.join("\n    ")}
    proxy_pass ${endpoint.ip}:${endpoint.port};
  }`,
    addresses,
  );
}

/**
 * @param stream what its configuration says of streams
 * @param to the addresses there
 */
async function startNginx(
  stream: string,
  to: readonly Address[],
): Promise<Running> {
  const folder = await temporaryFolder();
  const load = isFile(STREAM_MODULE) ? `load_module ${STREAM_MODULE};` : "";
  const config = `${load}
daemon off;
worker_processes 1;
worker_rlimit_nofile ${descriptorLimit()};
pid ${folder.path}/nginx.pid;
error_log stderr crit;
events { worker_connections ${descriptorLimit()}; }
stream {${stream}
}
`;
  await folder.write("nginx.conf", config);
  const program = findProgram("nginx")!;
  const path = `${folder.path}/nginx.conf`;
  const child = startTied([program, "-p", folder.path, "-c", path]);
  return await answering(child, to, folder);
}

/** One thread, and `splice` whenever HAProxy thinks that it pays. */
const HAPROXY: Subject = {
  name: "haproxy",
  udp: false,
  async start(endpoints) {
    const folder = await temporaryFolder();
    const port = freePort();
    const servers = endpoints.map(({ ip, port }, index) =>
      `  server s${index} ${ip}:${port}`
    );
    const connections = connectionLimit() + 100;
    const config = `global
  nbthread 1
  maxconn ${connections}
  maxpipes 256
defaults
  mode tcp
  option splice-auto
  balance roundrobin
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen bench
  bind ${LOOPBACK}:${port} backlog 4096
  maxconn ${connections}
${servers.join("\n")}
`;
    await folder.write("haproxy.cfg", config);
    const program = findProgram("haproxy")!;
    const path = `${folder.path}/haproxy.cfg`;
    const child = startTied([program, "-db", "-q", "-f", path]);
    return await answering(child, [{ ip: LOOPBACK, port }], folder);
  },
};

/** Those that this machine can run: `direct` first, peers last. */
export function findSubjects(): { found: Subject[]; missing: string[] } {
  const found = [DIRECT, ...ENGINES];
  const missing: string[] = [];
  for (const peer of [NGINX, HAPROXY]) {
    const why = whyNot(peer);
    if (why === undefined) found.push(peer);
    else missing.push(why);
  }
  return { found, missing };
}

/** The peers' names, found or not. */
export const PEERS: readonly string[] = [NGINX.name, HAPROXY.name];

function whyNot({ name }: Subject): string | undefined {
  const program = findProgram(name);
  if (program === undefined) return `no ${name} on the PATH`;
  if (name !== "nginx" || isFile(STREAM_MODULE)) return undefined;
  const { stderr } = new Deno.Command(program, { args: ["-V"] }).outputSync();
  return new TextDecoder().decode(stderr).includes("--with-stream ")
    ? undefined
    : "nginx has no stream module";
}

/** What peers say of themselves; empty without any. */
export function peerVersions(): Record<string, string> {
  const versions: Record<string, string> = {};
  for (const name of PEERS) {
    const program = findProgram(name);
    if (program === undefined) continue;
    const { stdout, stderr } = new Deno.Command(program, { args: ["-v"] })
      .outputSync();
    const text = new TextDecoder().decode(stdout) +
      new TextDecoder().decode(stderr);
    versions[name] = /\d+\.\d+\.\d+[^\s]*/.exec(text)?.[0] ?? "unknown";
  }
  return versions;
}

/**
 * How many connections any of the subjects can have open here: two descriptors
 * for each, and what HAProxy wants beside.
 */
export function connectionLimit(): number {
  return Math.floor((descriptorLimit() - 1_000) / 2);
}

/** Enough for any measure here. */
const DESCRIPTORS_WANTED = 32_768;

/**
 * Lets this process, and those it starts, have as many descriptors as the
 * measures want. That takes root where the hard limit is lower; without, there
 * are as many connections as the limit allows, and the results say how many.
 */
export function raiseDescriptorLimit(): void {
  const prlimit = findProgram("prlimit");
  if (prlimit === undefined || descriptorLimit() >= DESCRIPTORS_WANTED) return;
  const limit = `--nofile=${DESCRIPTORS_WANTED}:${DESCRIPTORS_WANTED}`;
  new Deno.Command(prlimit, {
    args: [`--pid=${Deno.pid}`, limit],
    stderr: "null",
  }).outputSync();
}

/** How many descriptors a process may have here. */
function descriptorLimit(): number {
  const limits = Deno.readTextFileSync("/proc/self/limits");
  return Number(/Max open files\s+\d+\s+(\d+)/.exec(limits)?.[1] ?? 1024);
}

function running(
  child: Child,
  to: readonly Address[],
  folder?: AsyncDisposable,
): Running {
  return {
    to,
    pids: processTree(child.pid),
    async [Symbol.asyncDispose]() {
      await child[Symbol.asyncDispose]();
      await folder?.[Symbol.asyncDispose]();
    },
  };
}

/** Peers say nothing when they are ready; they are asked. */
async function answering(
  child: Child,
  to: readonly Address[],
  folder: AsyncDisposable,
): Promise<Running> {
  const { ip: hostname, port } = to[0]!;
  const deadline = performance.now() + START_TIMEOUT_MS;
  for (;;) {
    try {
      (await Deno.connect({ hostname, port })).close();
      return running(child, to, folder);
    } catch {
      if (performance.now() > deadline) {
        throw new Error(`Cannot start a peer: ${child.output}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}
