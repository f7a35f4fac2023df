/**
 * What processes have used, as /proc says.
 *
 * @module
 */

/** Linux's USER_HZ, which /proc counts CPU time in. */
const TICKS_PER_SECOND = 100;

/** User and system time of all threads of these processes, in seconds. */
export function cpuSeconds(pids: readonly number[]): number {
  let ticks = 0;
  for (const pid of pids) {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const fields = stat.slice(stat.lastIndexOf(") ") + 2).split(" ");
    ticks += Number(fields[11]) + Number(fields[12]);
  }
  return ticks / TICKS_PER_SECOND;
}

/** Resident memory of these processes, in KiB. */
export function residentKiB(pids: readonly number[]): number {
  let sum = 0;
  for (const pid of pids) {
    const status = Deno.readTextFileSync(`/proc/${pid}/status`);
    sum += Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]);
  }
  return sum;
}

/** The process and its descendants. */
export function processTree(pid: number): number[] {
  const path = `/proc/${pid}/task/${pid}/children`;
  const children = Deno.readTextFileSync(path).split(" ").filter((word) =>
    word.trim() !== ""
  );
  return [pid, ...children.flatMap((child) => processTree(Number(child)))];
}

/** What all CPUs have done since the start, beside being idle; seconds. */
export function machineCpuSeconds(): number {
  const [first = ""] = Deno.readTextFileSync("/proc/stat").split("\n");
  const [user = 0, nice = 0, system = 0, , , irq = 0, softirq = 0] = first
    .split(/\s+/).slice(1).map(Number);
  return (user + nice + system + irq + softirq) / TICKS_PER_SECOND;
}
