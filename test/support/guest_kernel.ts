/**
 * Debian's kernel for a virtual machine: the kernel of the machine that tests
 * has no IPVS, as often as not. `.ci/run` unpacks the package; this makes of it
 * what qemu boots: the kernel, uncompressed, and an initramfs with the modules
 * that are asked for.
 *
 * @module
 */
import { fileURLToPath } from "node:url";
import { systemRunner } from "../../proxy/rules/command.ts";
import type { Need } from "./needs.ts";

/** The package as `dpkg -x` leaves it: `boot/`, `lib/modules/`. */
const FOLDER = Deno.env.get("GUEST_KERNEL") ??
  fileURLToPath(new URL("../../.ci/out/guest-kernel", import.meta.url));

/** The package is unpacked, and programs of this machine run in the guest. */
export const guestKernel: Need = () => {
  if (Deno.build.arch !== "x86_64") return "not an x86_64";
  try {
    kernelFile();
    return undefined;
  } catch {
    return "no kernel for a guest in .ci/out/guest-kernel";
  }
};

function kernelFile(): string {
  const names = [...Deno.readDirSync(`${FOLDER}/boot`)]
    .map(({ name }) => name).filter((name) => name.startsWith("vmlinuz-"));
  const [name] = names;
  if (name === undefined) throw new Error(`Cannot find a kernel in ${FOLDER}`);
  return `${FOLDER}/boot/${name}`;
}

/**
 * Writes the kernel without its compression: an emulated processor takes
 * seconds to undo it, this one half of one.
 */
export async function writeKernel(path: string): Promise<void> {
  const file = await Deno.readFile(kernelFile());
  const view = new DataView(file.buffer, file.byteOffset);
  // Documentation/arch/x86/boot.rst: setup_sects, payload_offset, _length.
  const start = ((view.getUint8(0x1f1) || 4) + 1) * 512 +
    view.getUint32(0x248, true);
  const length = view.getUint32(0x24c, true);
  const packed = `${path}.xz`;
  // The last four bytes are the size, not the compressor's.
  await Deno.writeFile(packed, file.subarray(start, start + length - 4));
  const signal = AbortSignal.timeout(60_000);
  await systemRunner.run(["xz", "-d", "-f", packed], { signal });
}

/**
 * Writes an archive of an initial file system: busybox, a script that runs
 * first, and modules in `/m`, in the order in which they can be loaded.
 */
export async function writeInitramfs(
  path: string,
  { init, modules }: { init: string; modules: readonly string[] },
): Promise<void> {
  const root = `${path}.d`;
  for (const folder of ["bin", "dev", "host", "m", "proc", "sys"]) {
    await Deno.mkdir(`${root}/${folder}`, { recursive: true });
  }
  await Deno.copyFile(await busybox(), `${root}/bin/busybox`);
  await Deno.writeTextFile(`${root}/init`, init, { mode: 0o755 });
  const files = await inLoadingOrder(modules);
  await Promise.all(files.map((file, index) => {
    const number = String(index).padStart(3, "0");
    return Deno.copyFile(file, `${root}/m/${number}.ko`);
  }));
  const signal = AbortSignal.timeout(60_000);
  await systemRunner.run([
    "sh",
    "-c",
    'cd "$1" && find . | busybox cpio -o -H newc > "$2" 2>/dev/null',
    "sh",
    root,
    path,
  ], { signal });
}

async function busybox(): Promise<string> {
  const signal = AbortSignal.timeout(10_000);
  const command = ["sh", "-c", "command -v busybox"] as const;
  return (await systemRunner.run([...command], { signal })).trim();
}

/** The files of modules and of what they need, that first. */
async function inLoadingOrder(names: readonly string[]): Promise<string[]> {
  const files = new Map<string, string>();
  for await (const file of filesBelow(`${FOLDER}/lib/modules`)) {
    const name = /([^/]*)\.ko$/.exec(file)?.[1];
    if (name !== undefined) files.set(normal(name), file);
  }
  const order = new Set<string>();
  const add = async (name: string): Promise<void> => {
    const file = files.get(normal(name));
    if (file === undefined) throw new Error(`Cannot find the module ${name}`);
    if (order.has(file)) return;
    for (const needed of dependencies(await Deno.readFile(file))) {
      await add(needed);
    }
    order.add(file);
  };
  for (const name of names) await add(name);
  return [...order];
}

/** `-` and `_` are the same in a module's name. */
function normal(name: string): string {
  return name.replaceAll("-", "_");
}

/** What `modinfo -F depends` says. */
function dependencies(module: Uint8Array): string[] {
  const text = new TextDecoder("latin1").decode(module);
  const [, list = ""] = /\0depends=([^\0]*)\0/.exec(text) ?? [];
  return list.split(",").filter((name) => name !== "");
}

async function* filesBelow(folder: string): AsyncIterable<string> {
  for await (const entry of Deno.readDir(folder)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* filesBelow(path);
    else if (entry.isFile) yield path;
  }
}
