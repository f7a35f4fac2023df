/**
 * A virtual machine that runs Debian's kernel (see `guest_kernel.ts`) and this
 * machine's programs: it sees this machine's files, read-only, and has a network
 * of its own. qemu emulates its processor, so that it runs anywhere; it takes
 * seconds to start, and is several times slower.
 *
 * @module
 */
import { Child } from "./child.ts";
import { guestKernel, writeInitramfs, writeKernel } from "./guest_kernel.ts";
import { type Need, program } from "./needs.ts";
import { temporaryFolder } from "./temporary_folder.ts";

/** What a guest takes of the machine that runs it. */
export const guest: readonly Need[] = [
  program("qemu-system-x86_64"),
  program("busybox"),
  program("xz"),
  guestKernel,
];

export interface GuestOptions {
  /** Names of kernel modules; what they need is loaded too. */
  readonly modules: readonly string[];
  /** Default: 384. */
  readonly memoryMb?: number;
}

export interface GuestResult {
  readonly code: number;
  readonly output: string;
}

/** Many times what an idle machine takes for it. */
const BOOT_TIMEOUT_MS = 180_000;
const COMMAND_TIMEOUT_MS = 120_000;

/** What the file systems of the host take to be seen in the guest. */
const OWN_MODULES = ["virtio_pci", "9pnet_virtio", "9p", "crc32c_generic"];

/**
 * Loads the modules, enters the host's file system, and runs each line of the
 * serial console: a number, then a command.
 */
const INIT = `#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
/bin/busybox mount -t proc proc /proc
for module in /m/*; do
  /bin/busybox insmod "$module" || echo "cannot load $module"
done
share() { /bin/busybox mount -t 9p -o "trans=virtio,version=9p2000.L,msize=1048576,$3" "$1" "$2"; }
share host /host ro,cache=loose
/bin/busybox mount -t devtmpfs dev /host/dev
/bin/busybox mount -t proc proc /host/proc
/bin/busybox mount -t sysfs sys /host/sys
/bin/busybox mount -t tmpfs run /host/run
/bin/busybox mkdir -p /host/run/share /host/run/home
share share /host/run/share ro,cache=none
/bin/busybox stty -F /dev/ttyS0 -echo
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/run/home
exec /bin/busybox chroot /host /bin/sh -c '
  ip link set lo up
  echo "<<0 exit 0>>"
  while read -r number command; do
    echo "<<$number>>"
    eval "$command" < /dev/null
    echo "<<$number exit $?>>"
  done
' < /dev/ttyS0 > /dev/ttyS0 2>&1
`;

export class Guest implements AsyncDisposable {
  /** A folder of this machine that the guest sees as `/run/share`. */
  readonly folder: string;
  readonly #stack: AsyncDisposableStack;
  readonly #console: Child;
  #commands = 0;

  private constructor(
    folder: string,
    machine: { stack: AsyncDisposableStack; console: Child },
  ) {
    this.folder = folder;
    this.#stack = machine.stack;
    this.#console = machine.console;
  }

  /** Starts one, and waits until it takes commands. */
  static async boot(
    { modules, memoryMb = 384 }: GuestOptions,
  ): Promise<Guest> {
    await using stack = new AsyncDisposableStack();
    const files = stack.use(await temporaryFolder());
    const [kernel, initramfs, folder] = ["kernel", "initramfs", "share"]
      .map((name) => `${files.path}/${name}`) as [string, string, string];
    await Deno.mkdir(folder);
    await Promise.all([
      writeKernel(kernel),
      writeInitramfs(initramfs, {
        init: INIT,
        modules: [...OWN_MODULES, ...modules],
      }),
    ]);
    const console = stack.use(
      new Child([
        ...["setpriv", "--pdeathsig", "KILL", "qemu-system-x86_64"] as const,
        ...["-M", "pc", "-accel", "tcg", "-cpu", "max", "-smp", "1"],
        ...["-m", String(memoryMb), "-nodefaults", "-no-reboot"],
        ...["-display", "none", "-serial", "stdio"],
        ...["-kernel", kernel, "-initrd", initramfs],
        ...["-append", "console=ttyS0 quiet loglevel=1 panic=-1"],
        ...shared("host", "/"),
        ...shared("share", folder),
      ]),
    );
    await console.waitFor("<<0 exit 0>>", BOOT_TIMEOUT_MS);
    return new Guest(folder, { stack: stack.move(), console });
  }

  /** Runs a line of shell to its end. Its output is at most what a console takes. */
  async try(
    command: string,
    timeoutMs = COMMAND_TIMEOUT_MS,
  ): Promise<GuestResult> {
    const number = ++this.#commands;
    await this.#console.write(`${number} ${command}\n`);
    const [, output = "", code] = await this.#console.waitFor(
      new RegExp(`<<${number}>>\\r?\\n([^]*?)<<${number} exit (\\d+)>>`),
      timeoutMs,
    );
    return { code: Number(code), output: output.replaceAll("\r", "") };
  }

  /**
   * Runs a line of shell.
   *
   * @returns what it printed
   * @throws if it fails
   */
  async run(command: string, timeoutMs?: number): Promise<string> {
    const { code, output } = await this.try(command, timeoutMs);
    if (code !== 0) {
      throw new Error(`"${command}" exited with code ${code}:\n${output}`);
    }
    return output;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack.disposeAsync();
  }
}

function shared(tag: string, path: string): string[] {
  const fsdev = `local,id=${tag},path=${path},security_model=none,` +
    "readonly=on,multidevs=remap";
  return [
    ...["-fsdev", fsdev],
    ...["-device", `virtio-9p-pci,fsdev=${tag},mount_tag=${tag}`],
  ];
}
