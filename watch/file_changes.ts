/**
 * One file, followed: its text, each time that it is another one. Made for files
 * that the kubelet mounts from a ConfigMap, which it replaces by turning a
 * symbolic link beside them, and for editors, which rename. Knows nothing of
 * what is in the file.
 *
 * @module
 */
import { getLogger } from "@std/log";
import type { Clock } from "./clock.ts";
import { FolderNotices } from "./folder_notices.ts";
import { TroubleLog } from "./trouble_log.ts";

const logger = getLogger("watch");

export interface FileChangesOptions {
  readonly clock: Clock;
  /** The text that is known already. */
  readonly known: string;
  /** Ends it. */
  readonly signal: AbortSignal;
}

/**
 * Yields the text of a file whenever it is not what it was, within two seconds.
 * A file that cannot be read is told once, and is as it was.
 */
export async function* fileChanges(
  path: string,
  { clock, known, signal }: FileChangesOptions,
): AsyncGenerator<string> {
  using notices = new FolderNotices(folderOf(path), clock);
  const trouble = new TroubleLog(logger, { path });
  let last = known;
  while (!signal.aborted) {
    notices.listen();
    const text = await readText(path, trouble);
    if (text !== undefined && text !== last) {
      last = text;
      yield text;
    }
    try {
      await notices.next(signal);
    } catch {
      return;
    }
  }
}

async function readText(
  path: string,
  trouble: TroubleLog,
): Promise<string | undefined> {
  try {
    const text = await Deno.readTextFile(path);
    trouble.recovered("File can be read again");
    return text;
  } catch (cause) {
    trouble.failed("Cannot read file again; what it said still counts", cause);
    return undefined;
  }
}

function folderOf(path: string): string {
  const slash = path.lastIndexOf("/");
  return slash === -1 ? "." : path.slice(0, slash) || "/";
}
