/**
 * The cluster as a folder of YAML and JSON files, followed as they change: one
 * reader for all kinds. Each time something changed it yields everything there
 * is, so that its consumers see what they see from a list.
 *
 * A file that is written, renamed into place, or swapped by a symlink (as
 * ConfigMap volumes do with `..data`) is noticed at once through the file
 * system's notices; where those do not come (network file systems, the target
 * of a symlink), by a look every few seconds.
 *
 * @module
 */
import { getLogger } from "@std/log";
import { type Clock, systemClock } from "./clock.ts";
import { FolderNotices } from "./folder_notices.ts";
import { type ManifestFile, readManifestFile } from "./manifest_file.ts";
import { TroubleLog } from "./trouble_log.ts";
import {
  type ClusterObject,
  type EndpointSlice,
  type Node,
  type ObjectKey,
  objectKey,
  type Service,
  type SourceState,
} from "./types.ts";

/** All objects of one kind, by key. */
export interface ManifestObjects<T extends ClusterObject> {
  readonly objects: ReadonlyMap<ObjectKey, T>;
  /** Written down, but not readable. */
  readonly unreadable: ReadonlySet<ObjectKey>;
}

/** Everything the folder holds. */
export interface Manifests {
  readonly services: ManifestObjects<Service>;
  readonly endpointSlices: ManifestObjects<EndpointSlice>;
  readonly nodes: ManifestObjects<Node>;
}

export type ManifestEvent =
  | { readonly type: "manifests"; readonly manifests: Manifests }
  | { readonly type: "state"; readonly state: SourceState };

export interface FollowManifestsOptions {
  readonly signal: AbortSignal;
  /** @default {systemClock} */
  readonly clock?: Clock;
}

const logger = getLogger("watch");

/**
 * Reads every `*.yaml`, `*.yml` and `*.json` file directly in `folder`, and
 * again whatever changes, until `signal` is aborted; then it returns. A file
 * that cannot be read is named in the log and counts as it last was.
 */
export async function* followManifests(
  folder: string,
  options: FollowManifestsOptions,
): AsyncGenerator<ManifestEvent, void> {
  const { signal } = options;
  const clock = options.clock ?? systemClock;
  const manifests = new ManifestFolder(folder);
  const trouble = new TroubleLog(logger, { folder });
  using notices = new FolderNotices(folder, clock);
  let phase: SourceState["phase"] | undefined;
  while (!signal.aborted) {
    notices.listen();
    try {
      const changed = await manifests.refresh();
      trouble.recovered("The folder can be read again");
      if (phase !== "following") {
        yield { type: "state", state: { phase: phase = "following" } };
      }
      if (changed) yield { type: "manifests", manifests: manifests.all() };
    } catch (cause) {
      trouble.failed(
        "Cannot read the folder; what is known stays served",
        cause,
      );
      const reason = cause instanceof Error ? cause.message : String(cause);
      if (phase !== "waiting") {
        yield { type: "state", state: { phase: phase = "waiting", reason } };
      }
    }
    await notices.next(signal).catch(() => {});
  }
}

/**
 * What the folder holds now, read once.
 *
 * @throws the system's error, where the folder cannot be read
 */
export async function readManifests(folder: string): Promise<Manifests> {
  const manifests = new ManifestFolder(folder);
  await manifests.refresh();
  return manifests.all();
}

/** A file's content, and what its metadata was when that was read. */
interface KnownFile {
  readonly fingerprint: string;
  readonly content: ManifestFile;
}

/** The files of a folder as they last could be read. */
class ManifestFolder {
  readonly #folder: string;
  /** By file name, in the order of names. */
  #files = new Map<string, KnownFile>();
  #isRead = false;
  /** Objects that are written twice, and where: what was said of them. */
  #twice = new Set<string>();

  constructor(folder: string) {
    this.#folder = folder;
  }

  /**
   * Reads what is not as it was.
   *
   * @returns whether anything was different (the first time: always)
   * @throws the system's error, where the folder cannot be read
   */
  async refresh(): Promise<boolean> {
    const names: string[] = [];
    for await (const { name, isDirectory } of Deno.readDir(this.#folder)) {
      // Names with a dot in front are editors' locks and ConfigMaps' versions.
      const isManifest = /^[^.].*\.(ya?ml|json)$/.test(name);
      if (isManifest && !isDirectory) names.push(name);
    }
    const files = new Map<string, KnownFile>();
    for (const name of names.sort()) {
      const file = await this.#refreshFile(name);
      if (file !== undefined) files.set(name, file);
    }
    const changed = !this.#isRead || files.size !== this.#files.size ||
      [...files].some(([name, file]) => this.#files.get(name) !== file);
    this.#files = files;
    this.#isRead = true;
    return changed;
  }

  async #refreshFile(name: string): Promise<KnownFile | undefined> {
    const path = `${this.#folder}/${name}`;
    const before = this.#files.get(name);
    try {
      const { isFile, dev, ino, mtime, size } = await Deno.stat(path);
      if (!isFile) return undefined;
      const fingerprint = `${dev} ${ino} ${mtime?.getTime()} ${size}`;
      if (before?.fingerprint === fingerprint) return before;
      const content = readManifestFile(name, await Deno.readTextFile(path));
      this.#report(content);
      if (!content.broken || before === undefined) {
        return { fingerprint, content };
      }
      return { fingerprint, content: before.content };
    } catch (cause) {
      if (cause instanceof Deno.errors.NotFound) return undefined;
      if (before?.fingerprint === UNREADABLE) return before;
      logger.warn("Cannot read a file", { path, cause });
      const content = before?.content ?? readManifestFile(name, "");
      return { fingerprint: UNREADABLE, content };
    }
  }

  #report(content: ManifestFile): void {
    for (const problem of content.problems) {
      logger.warn("A manifest is not as it should be", {
        folder: this.#folder,
        problem,
      });
    }
    if (content.ignored.length === 0) return;
    logger.debug("Ignoring objects of other kinds", {
      folder: this.#folder,
      ignored: content.ignored,
    });
  }

  all(): Manifests {
    const twice = new Set<string>();
    const all = {
      services: this.#ofKind<Service>("Service", twice),
      endpointSlices: this.#ofKind<EndpointSlice>("EndpointSlice", twice),
      nodes: this.#ofKind<Node>("Node", twice),
    };
    this.#twice = twice;
    return all;
  }

  /** @param twice is told which objects of the kind are written twice */
  #ofKind<T extends ClusterObject>(
    kind: T["kind"],
    twice: Set<string>,
  ): ManifestObjects<T> {
    const objects = new Map<ObjectKey, T>();
    const places = new Map<ObjectKey, string>();
    const unreadable = new Set<ObjectKey>();
    for (const { content } of this.#files.values()) {
      for (const { object, place } of content.objects) {
        if (object.kind !== kind) continue;
        const key = objectKey(object.metadata);
        const other = places.get(key);
        if (other !== undefined) {
          const properties = { kind, key, used: place, unused: other };
          const said = JSON.stringify(properties);
          // Not with every change of some other file.
          if (!this.#twice.has(said)) {
            logger.warn("An object is written twice", properties);
          }
          twice.add(said);
        }
        objects.set(key, object as T);
        places.set(key, place);
      }
      for (const entry of content.unreadable) {
        if (entry.kind === kind) unreadable.add(entry.key);
      }
    }
    return { objects, unreadable };
  }
}

const UNREADABLE = "unreadable";
