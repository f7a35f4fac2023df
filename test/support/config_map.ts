/**
 * A ConfigMap as the kubelet mounts it: each file is a link through `..data`,
 * which is one of a folder that is replaced as a whole.
 *
 * @module
 */

export class MountedConfigMap {
  readonly path: string;
  #version = 0;

  /** @param path an empty folder */
  constructor(path: string) {
    this.path = path;
  }

  /** Replaces all of it, atomically, as the kubelet does. */
  async put(files: Readonly<Record<string, string>>): Promise<void> {
    const before = this.#version;
    const name = (version: number) => `..2026_01_01_00_00_00.${version}`;
    this.#version++;
    const data = name(this.#version);
    await Deno.mkdir(`${this.path}/${data}`);
    for (const [file, text] of Object.entries(files)) {
      await Deno.writeTextFile(`${this.path}/${data}/${file}`, text);
    }
    await Deno.symlink(data, `${this.path}/..data_tmp`);
    await Deno.rename(`${this.path}/..data_tmp`, `${this.path}/..data`);
    if (before > 0) {
      await Deno.remove(`${this.path}/${name(before)}`, { recursive: true });
      return;
    }
    for (const file of Object.keys(files)) {
      await Deno.symlink(`..data/${file}`, `${this.path}/${file}`);
    }
  }
}
