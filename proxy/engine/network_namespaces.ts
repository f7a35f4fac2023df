/**
 * Makes sockets in another network namespace than the process's own. In: the
 * path of a namespace, and a function that opens sockets. Out: what it opened,
 * which stays in that namespace for as long as it is open. Knows nothing of
 * what the namespace is for.
 *
 * The thread of JavaScript enters the namespace and leaves it again before
 * anything else can run on it: `setns(2)` moves one thread, and Deno makes the
 * socket of `Deno.listen` and `Deno.listenDatagram` on the thread that calls
 * them, before they return. So it serves every engine.
 *
 * @module
 */
import type { NamespaceOpener } from "./engine.ts";
import { nameNamespace } from "./namespace_name.ts";
import { errnoText } from "./splice/errors.ts";
import { type Libc, NoLibcError, openLibc } from "./splice/libc.ts";
import { CLONE_NEWNET, O_CLOEXEC, O_WRONLY } from "./splice/libc.ts";

/** The namespace of the calling thread. */
const OWN = "/proc/thread-self/ns/net";

/** Of a kernel parameter. */
const READ_BYTES_MAX = 64;

/**
 * The real one. Opens the C library when it is first needed, and keeps it
 * until it is disposed: opening it takes a hundred times as long as two
 * `setns`, which together take 16 µs.
 */
export class NetworkNamespaces implements NamespaceOpener, Disposable {
  #libc: Libc | undefined;

  whyNot(): string | undefined {
    try {
      this.#open();
      return undefined;
    } catch (error) {
      if (error instanceof NoLibcError) return error.message;
      throw error;
    }
  }

  openIn<T>(path: string, open: () => T): T {
    const libc = this.#open();
    const home = openFile(libc, OWN, O_CLOEXEC);
    try {
      const there = openFile(libc, path, O_CLOEXEC);
      try {
        enter(libc, there, path);
      } finally {
        libc.call.close(there);
      }
      try {
        return open();
      } finally {
        enter(libc, home, OWN);
      }
    } finally {
      libc.call.close(home);
    }
  }

  writeIn(path: string, file: string, text: string): void {
    const libc = this.#open();
    // Files under /proc/sys/net are those of the thread that opens them.
    const fd = this.openIn(
      path,
      () => openFile(libc, file, O_WRONLY | O_CLOEXEC),
    );
    try {
      const bytes = new TextEncoder().encode(text);
      if (libc.call.write(fd, bytes, bytes.length) === bytes.length) return;
      throw failure(`Cannot write "${file}"`, libc);
    } finally {
      libc.call.close(fd);
    }
  }

  /**
   * What a short file says as it is seen from a namespace.
   *
   * @throws {Error} if it cannot be read
   */
  readIn(path: string, file: string): string {
    const libc = this.#open();
    const fd = this.openIn(path, () => openFile(libc, file, O_CLOEXEC));
    try {
      const bytes = new Uint8Array(READ_BYTES_MAX);
      const count = libc.call.read(fd, bytes, bytes.length);
      if (count === -1) throw failure(`Cannot read "${file}"`, libc);
      return new TextDecoder().decode(bytes.subarray(0, count));
    } finally {
      libc.call.close(fd);
    }
  }

  /**
   * A descriptor of a namespace, to be given to another process.
   *
   * @throws {Error} if there is no such namespace
   */
  open(path: string): number {
    return openFile(this.#open(), path, O_CLOEXEC);
  }

  close(descriptor: number): void {
    this.#open().call.close(descriptor);
  }

  /**
   * Gives the namespace of a descriptor this name, where there is none of that
   * name: another container has folders of its own.
   *
   * @throws {Error} if it cannot
   */
  adopt(path: string, descriptor: number): void {
    try {
      this.openIn(path, () => {});
    } catch {
      nameNamespace(path, descriptor);
    }
  }

  [Symbol.dispose](): void {
    this.#libc?.close();
    this.#libc = undefined;
  }

  #open(): Libc {
    return this.#libc ??= openLibc();
  }
}

function openFile(libc: Libc, path: string, flags: number): number {
  const name = new TextEncoder().encode(`${path}\0`);
  const fd = libc.call.open(name, flags);
  if (fd === -1) throw failure(`Cannot open "${path}"`, libc);
  return fd;
}

function enter(libc: Libc, fd: number, path: string): void {
  if (libc.call.setns(fd, CLONE_NEWNET) === 0) return;
  throw failure(`Cannot enter the network namespace "${path}"`, libc);
}

function failure(what: string, libc: Libc): Error {
  return new Error(`${what}: ${errnoText(libc.errno())}`);
}

/**
 * Opens a socket where an address says: in its namespace, or here.
 *
 * @throws {Error} if the address has a namespace and there is no opener
 */
export function openAt<T>(
  { namespace }: { readonly namespace?: string },
  namespaces: NamespaceOpener | undefined,
  open: () => T,
): T {
  if (namespace === undefined) return open();
  if (namespaces === undefined) {
    throw new Deno.errors.NotSupported(
      `Cannot listen in "${namespace}": this engine opens no sockets in other network namespaces`,
    );
  }
  return namespaces.openIn(namespace, open);
}
