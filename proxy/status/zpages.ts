/**
 * `/statusz` and `/flagz`, as Kubernetes' components have them (fact 7.21): what
 * runs here since when, and by which flags it was started. Text for people by
 * default; JSON for who asks for the kind by name in Accept.
 *
 * @module
 */
import { Hono } from "hono";

export interface ZpagesOptions {
  /** `0.1.0`. */
  readonly version: string;
  /** Milliseconds since 1970. */
  readonly startedAt: number;
  /** Milliseconds since 1970. */
  now(): number;
  /** Every flag of the command line and its value, defaults included. */
  readonly flags: Readonly<Record<string, string | boolean | undefined>>;
  /** What the port answers beside these. */
  readonly paths: readonly string[];
}

/** Whose clients read these pages: by the name of what we stand in for. */
const COMPONENT = "kube-proxy";

/** The release of Kubernetes whose kube-proxy this one follows. */
const EMULATED_VERSION = "1.36";

const WARNING =
  "Warning: This endpoint is not meant to be machine parseable, has no formatting compatibility guarantees and is for debugging purposes only.";

const PLAIN = {
  "Content-Type": "text/plain; charset=utf-8",
  "X-Content-Type-Options": "nosniff",
};

/** Answers these two paths and nothing else. */
export function zpages(options: ZpagesOptions): Hono {
  const { flags } = options;
  const app = new Hono();
  app.get("/statusz", ({ req }) => {
    const status = statusOf(options);
    return answer(req.header("Accept"), {
      kind: "Statusz",
      fields: status,
      text: page("statusz", statusLines(status)),
    });
  });
  app.get("/flagz", ({ req }) => {
    const values = Object.fromEntries(
      Object.entries(flags).sort(([a], [b]) => a < b ? -1 : 1)
        .map(([name, value]) => [name, String(value ?? "")]),
    );
    const lines = Object.entries(values).map(([name, value]) =>
      `${name}=${value}`
    );
    return answer(req.header("Accept"), {
      kind: "Flagz",
      fields: { flags: values },
      text: page("flagz", lines),
    });
  });
  return app;
}

function statusOf({ version, startedAt, now, paths }: ZpagesOptions) {
  return {
    startTime: new Date(startedAt).toISOString().replace(/\.\d+Z$/, "Z"),
    uptimeSeconds: Math.max(0, Math.floor((now() - startedAt) / 1_000)),
    // There is no Go; what runs the program is said in its place.
    goVersion: `none (Deno ${Deno.version.deno})`,
    binaryVersion: version,
    emulationVersion: EMULATED_VERSION,
    paths: [...paths, "/flagz", "/statusz"].sort(),
  };
}

function statusLines(status: ReturnType<typeof statusOf>): string[] {
  const { uptimeSeconds: up } = status;
  const two = (n: number) => String(Math.floor(n)).padStart(2, "0");
  return [
    `Started: ${status.startTime}`,
    `Up: ${Math.floor(up / 3_600)} hr ${two(up / 60 % 60)} min ${
      two(up % 60)
    } sec`,
    `Go version: ${status.goVersion}`,
    `Binary version: ${status.binaryVersion}`,
    `Emulation version: ${status.emulationVersion}`,
    `Paths: ${status.paths.join(" ")}`,
  ];
}

function page(name: string, lines: readonly string[]): string {
  return `\n${COMPONENT} ${name}\n${WARNING}\n\n${lines.join("\n")}\n`;
}

interface Zpage {
  readonly kind: "Statusz" | "Flagz";
  readonly fields: Readonly<Record<string, unknown>>;
  readonly text: string;
}

function answer(accept: string | undefined, zpage: Zpage): Response {
  const form = wantedForm(accept ?? "*/*", zpage.kind);
  if (form === undefined) {
    return new Response(
      `406 not acceptable: want text/plain, or application/json;g=config.k8s.io;v=v1beta1;as=${zpage.kind}\n`,
      { status: 406, headers: PLAIN },
    );
  }
  if (form === "text") return new Response(zpage.text, { headers: PLAIN });
  const body = {
    kind: zpage.kind,
    apiVersion: `config.k8s.io/${form}`,
    metadata: { name: COMPONENT },
    ...zpage.fields,
  };
  return new Response(`${JSON.stringify(body)}\n`, {
    headers: {
      "Content-Type": "application/json",
      "X-Content-Type-Options": "nosniff",
      ...form === "v1alpha1"
        ? {
          Warning:
            `299 - "config.k8s.io/v1alpha1 ${zpage.kind} is deprecated; use config.k8s.io/v1beta1 ${zpage.kind}"`,
        }
        : {},
    },
  });
}

/** The first form in an Accept header that we have. */
function wantedForm(
  accept: string,
  kind: Zpage["kind"],
): "text" | "v1beta1" | "v1alpha1" | undefined {
  for (const range of accept.split(",")) {
    const [type = "", ...params] = range.split(";").map((part) => part.trim());
    if (/^(text|\*)\/(plain|\*)$/i.test(type)) return "text";
    const of = (name: string) =>
      params.find((param) => param.startsWith(`${name}=`))
        ?.slice(name.length + 1);
    const version = of("v");
    const isOurs = type.toLowerCase() === "application/json" &&
      of("g") === "config.k8s.io" && of("as") === kind;
    if (isOurs && (version === "v1beta1" || version === "v1alpha1")) {
      return version;
    }
  }
  return undefined;
}
