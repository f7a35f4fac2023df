/**
 * Who answered whom through a real kube-proxy: the recorded matrices, row by
 * row.
 *
 * @module
 */

/** `kp`: the node; `cl`: a host that routes through it. */
export interface MatrixRow {
  readonly client: "kp" | "cl";
  readonly url: URL;
  /** Endpoints that answered, each once: `10.200.0.11`. */
  readonly endpoints: readonly string[];
  /** What the endpoints saw as their client, each once. */
  readonly saw: readonly string[];
  /** `10.200.0.11 saw 10.200.0.2`, `refused`, `timeout`, each once. */
  readonly answers: ReadonlySet<string>;
  readonly isRefused: boolean;
  readonly isTimeout: boolean;
}

/** Reads `from kp | NAME | http://10.96.7.223:26880/ | 3 10.200.0.11:26880 saw …;`. */
export function matrixRows(text: string): MatrixRow[] {
  return text.trimEnd().split("\n").map((line) => {
    const [from = "", , url = "", answers = ""] = line.split(" | ");
    const all = answers.split(";").filter((each) => each !== "");
    const isRefused = answers.includes("curl-exit-7");
    const isTimeout = answers.includes("curl-exit-28");
    const found = all.flatMap((each) => {
      const match = /^\d+ (?:udp-)?([\d.]+)(?::\d+)? saw ([\d.]+)/.exec(each);
      return match === null ? [] : [{ endpoint: match[1]!, saw: match[2]! }];
    });
    return {
      client: from.replace("from ", "") as MatrixRow["client"],
      url: new URL(url),
      endpoints: [...new Set(found.map(({ endpoint }) => endpoint))].sort(),
      saw: [...new Set(found.map(({ saw }) => saw))].sort(),
      answers: new Set([
        ...found.map(({ endpoint, saw }) => `${endpoint} saw ${saw}`),
        ...isRefused ? ["refused"] : [],
        ...isTimeout ? ["timeout"] : [],
      ]),
      isRefused,
      isTimeout,
    };
  });
}
