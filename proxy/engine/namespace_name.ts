/**
 * Gives a network namespace a name, as `ip netns add` does: a file that the
 * namespace is mounted on. In: a descriptor of it, and the name's path.
 *
 * @module
 */
import { errnoText } from "./splice/errors.ts";
import { openLibrary } from "./splice/libc.ts";

const SYMBOLS = {
  mkdir: { parameters: ["buffer", "u32"], result: "i32" },
  creat: { parameters: ["buffer", "u32"], result: "i32" },
  close: { parameters: ["i32"], result: "i32" },
  mount: {
    parameters: ["buffer", "buffer", "buffer", "u64", "pointer"],
    result: "i32",
  },
  __errno_location: { parameters: [], result: "usize" },
  readMemory: {
    name: "memcpy",
    parameters: ["buffer", "usize", "u32"],
    result: "void",
  },
} as const satisfies Deno.ForeignLibraryInterface;

const MS_BIND = 4096n;

/**
 * @throws {Error} if it cannot: one sentence. The namespace itself is no
 *   different for it
 */
export function nameNamespace(path: string, descriptor: number): void {
  const { symbols, close } = library();
  try {
    const name = text(path);
    // Either may be there already.
    symbols.mkdir(text(path.slice(0, path.lastIndexOf("/"))), 0o755);
    symbols.close(symbols.creat(name, 0));
    const source = text(`/proc/thread-self/fd/${descriptor}`);
    if (symbols.mount(source, name, text("none"), MS_BIND, null) === 0) return;
    const errno = new Int32Array(1);
    symbols.readMemory(errno, symbols.__errno_location(), 4);
    throw new Error(
      `Cannot name the network namespace "${path}": ${errnoText(errno[0]!)}`,
    );
  } finally {
    close();
  }
}

function library() {
  const opened = openLibrary(SYMBOLS);
  return { symbols: opened.symbols, close: () => opened.close() };
}

function text(value: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(`${value}\0`);
}
