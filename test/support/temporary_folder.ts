/**
 * A folder that is gone after the test.
 *
 * @module
 */

export interface TemporaryFolder extends AsyncDisposable {
  readonly path: string;
  /** Writes (or replaces) a file and says its path. */
  write(
    name: string,
    text: string,
    options?: { readonly mode?: number },
  ): Promise<string>;
}

export async function temporaryFolder(): Promise<TemporaryFolder> {
  const path = await Deno.makeTempDir({ prefix: "kube-portal-test-" });
  return {
    path,
    async write(name, text, { mode = 0o644 } = {}) {
      const file = `${path}/${name}`;
      await Deno.writeTextFile(file, text);
      await Deno.chmod(file, mode);
      return file;
    },
    async [Symbol.asyncDispose]() {
      await Deno.remove(path, { recursive: true });
    },
  };
}
