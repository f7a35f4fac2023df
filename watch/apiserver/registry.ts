/**
 * Reading and writing objects by the API's rules, without HTTP: names and
 * namespaces, defaults, validation, optimistic concurrency, finalizers, dry
 * runs. An operation either happens as a whole or throws a `StatusError` and
 * changes nothing; nothing here waits, so two writes never interleave.
 *
 * @module
 */
import { metadataErrors } from "./names.ts";
import { decodeObject, type DecodeOptions } from "./decoding.ts";
import {
  checkPreconditions,
  type DeleteOptions,
  placeIn,
  randomSuffix,
  sameContent,
  successor,
  timestamp,
  withoutServerFields,
} from "./object_meta.ts";
import { isEqual } from "./patch.ts";
import { patchedObject, type PatchType } from "./patching.ts";
import {
  type KubeObject,
  type ResourceDefinition,
  storeKey,
  text,
} from "./resource.ts";
import {
  alreadyExists,
  badRequest,
  conflict,
  fieldError,
  forbidden,
  invalid,
  notFound,
} from "./status.ts";
import type { Store } from "./store.ts";
import { applyMerge } from "./strategic_merge.ts";

/** Names one object. */
export interface ObjectName {
  /** Empty where the resource has no namespaces. */
  readonly namespace: string;
  readonly name: string;
}

export interface WriteOptions extends DecodeOptions {
  /** Do everything but store it. */
  dryRun?: boolean;
  /** Write the status and nothing else. */
  subresource?: "status";
  /** Who applies: its earlier intent is replaced by the new one. */
  fieldManager?: string;
}

export interface Written {
  readonly object: KubeObject;
  readonly created: boolean;
}

export class Registry {
  readonly #store: Store;
  readonly #now: () => number;
  readonly #namespaces: ResourceDefinition;
  /** What a manager applied last, by the object's uid. */
  readonly #applied = new Map<string, Map<string, Record<string, unknown>>>();

  /** @param namespaces objects come with their namespace, if it is missing */
  constructor(
    store: Store,
    namespaces: ResourceDefinition,
    options: { now: () => number },
  ) {
    this.#store = store;
    this.#namespaces = namespaces;
    this.#now = options.now;
  }

  /** @throws {StatusError} 404 */
  get(definition: ResourceDefinition, name: ObjectName): KubeObject {
    const object = this.#store.get(definition.plural, storeKey(name));
    if (object === undefined) throw notFound(definition, name.name);
    return object;
  }

  /** @throws {StatusError} 400, 409 or 422 */
  create(
    definition: ResourceDefinition,
    given: unknown,
    options: WriteOptions & { namespace: string },
  ): KubeObject {
    const object = decodeObject(definition, given, options);
    const { metadata } = object;
    placeIn(definition, object, options.namespace);
    if (text(metadata.resourceVersion) !== "") {
      throw badRequest(
        "resourceVersion should not be set on objects to be created",
      );
    }
    if (text(metadata.name) === "" && text(metadata.generateName) !== "") {
      metadata.name = text(metadata.generateName) + randomSuffix();
    }
    const key = storeKey(metadata);
    if (this.#store.get(definition.plural, key) !== undefined) {
      throw alreadyExists(definition, metadata.name);
    }
    if (definition.createsWithoutStatus) delete object.status;
    object.metadata = {
      ...withoutServerFields(metadata),
      uid: crypto.randomUUID(),
      ...(definition.hasGeneration ? { generation: 1 } : {}),
      creationTimestamp: timestamp(this.#now()),
    };
    this.#admit(definition, object, undefined);
    if (options.dryRun) return object;
    if (definition.namespaced) this.#ensureNamespace(object.metadata.namespace);
    return this.#put(definition, object, undefined);
  }

  /** @throws {StatusError} 400, 404, 409 or 422 */
  update(
    definition: ResourceDefinition,
    name: ObjectName,
    given: unknown,
    options: WriteOptions = {},
  ): Written {
    const object = decodeObject(definition, given, options);
    placeIn(definition, object, name.namespace);
    const { metadata } = object;
    if (text(metadata.name) === "") metadata.name = name.name;
    if (metadata.name !== name.name) {
      throw badRequest(
        `the name of the object (${metadata.name}) does not match the name on the URL (${name.name})`,
      );
    }
    const previous = this.#store.get(definition.plural, storeKey(name));
    if (previous !== undefined) {
      return this.#replace(definition, previous, object, options);
    }
    const creates = definition.createsOnUpdate && !options.subresource;
    const version = text(metadata.resourceVersion);
    if (!creates || version !== "") {
      throw notFound(definition, name.name);
    }
    const created = this.create(definition, given, {
      ...options,
      namespace: name.namespace,
    });
    return { object: created, created: true };
  }

  /**
   * @param patch as its type wants it: a list of operations, or an object
   * @throws {StatusError} 400, 404, 409, 413 or 422
   */
  patch(
    definition: ResourceDefinition,
    name: ObjectName,
    patch: unknown,
    options: WriteOptions & { type: PatchType },
  ): Written {
    const previous = this.#store.get(definition.plural, storeKey(name));
    if (options.type === "apply") {
      return this.#apply(definition, name, patch, previous, options);
    }
    if (previous === undefined) throw notFound(definition, name.name);
    const target = structuredClone(previous);
    const patched = patchedObject(definition, target, patch, options.type);
    return this.#patched(definition, previous, patched, options);
  }

  /**
   * Deletes the object, or, while it has finalizers, marks it as to be deleted.
   *
   * @returns its last state, and whether it is gone
   * @throws {StatusError} 403, 404 or 409
   */
  delete(
    definition: ResourceDefinition,
    name: ObjectName,
    options: DeleteOptions = {},
  ): { object: KubeObject; gone: boolean } {
    const object = this.get(definition, name);
    checkPreconditions(definition, object, options);
    const refusal = definition.refusesDelete?.(object);
    if (refusal !== undefined) {
      throw forbidden(definition, name.name, refusal);
    }
    const finalizers = object.metadata.finalizers ?? [];
    if (finalizers.length === 0) {
      if (options.dryRun) return { object, gone: true };
      return { object: this.#remove(definition, object), gone: true };
    }
    if (object.metadata.deletionTimestamp !== undefined) {
      return { object, gone: false };
    }
    const marked = structuredClone(object);
    marked.metadata.deletionGracePeriodSeconds = 0;
    marked.metadata.deletionTimestamp = timestamp(this.#now());
    if (options.dryRun) return { object: marked, gone: false };
    return { object: this.#put(definition, marked, object), gone: false };
  }

  #apply(
    definition: ResourceDefinition,
    name: ObjectName,
    patch: unknown,
    previous: KubeObject | undefined,
    options: WriteOptions,
  ): Written {
    const manager = options.fieldManager ?? "";
    if (manager === "") {
      throw invalid(PATCH_OPTIONS, "", [
        fieldError.required("fieldManager", "is required for apply patch"),
      ]);
    }
    const intent = decodeObject(definition, patch, options);
    const { managedFields, ...metadata } = intent.metadata;
    if (Array.isArray(managedFields) && managedFields.length > 0) {
      throw badRequest("metadata.managedFields must be nil");
    }
    if (text(metadata.name) !== "" && metadata.name !== name.name) {
      throw badRequest(
        `the name of the object (${metadata.name}) does not match the name on the URL (${name.name})`,
      );
    }
    intent.metadata = { ...metadata, name: name.name };
    const applied: Written = previous === undefined
      ? {
        object: this.create(definition, intent, {
          ...options,
          namespace: name.namespace,
        }),
        created: true,
      }
      : this.#patched(
        definition,
        previous,
        applyMerge(
          structuredClone(previous),
          this.#applied.get(text(previous.metadata.uid))?.get(manager) ?? {},
          structuredClone(intent),
          definition.schema,
        ),
        options,
      );
    if (!options.dryRun) this.#remember(applied.object, manager, intent);
    return applied;
  }

  #remember(object: KubeObject, manager: string, intent: KubeObject): void {
    const uid = text(object.metadata.uid);
    const managers = this.#applied.get(uid) ?? new Map();
    this.#applied.set(uid, managers.set(manager, intent));
  }

  #patched(
    definition: ResourceDefinition,
    previous: KubeObject,
    patched: unknown,
    options: WriteOptions,
  ): Written {
    const object = decodeObject(definition, patched, options);
    const { name, namespace } = previous.metadata;
    if (object.metadata.name !== name) {
      throw invalid(definition, name, [
        fieldError.invalid(
          "metadata.name",
          object.metadata.name,
          "field is immutable",
        ),
      ]);
    }
    placeIn(definition, object, namespace ?? "");
    return this.#replace(definition, previous, object, options);
  }

  #replace(
    definition: ResourceDefinition,
    previous: KubeObject,
    given: KubeObject,
    options: WriteOptions,
  ): Written {
    const { name } = previous.metadata;
    const { uid, resourceVersion } = given.metadata;
    if (text(uid) !== "" && uid !== previous.metadata.uid) {
      throw conflict(
        definition,
        name,
        `Precondition failed: UID in precondition: ${uid}, UID in object meta: ${previous.metadata.uid}`,
      );
    }
    if (
      text(resourceVersion) !== "" &&
      resourceVersion !== previous.metadata.resourceVersion
    ) throw conflict(definition, name);
    const object = successor(previous, given, {
      hasStatus: definition.hasStatus,
      subresource: options.subresource,
    });
    this.#admit(definition, object, previous);
    object.metadata.resourceVersion = previous.metadata.resourceVersion!;
    // Writing what is there already is no change, and no watch sees one.
    if (isEqual(object, previous)) return { object: previous, created: false };
    if (definition.hasGeneration && !sameContent(object, previous)) {
      object.metadata.generation = (previous.metadata.generation ?? 0) + 1;
    }
    if (options.dryRun) return { object, created: false };
    const { deletionTimestamp, finalizers = [] } = object.metadata;
    if (deletionTimestamp !== undefined && finalizers.length === 0) {
      return { object: this.#remove(definition, previous), created: false };
    }
    return { object: this.#put(definition, object, previous), created: false };
  }

  #admit(
    definition: ResourceDefinition,
    object: KubeObject,
    previous: KubeObject | undefined,
  ): void {
    const admission = { previous };
    definition.setDefaults(object, admission);
    const errors = [
      ...metadataErrors(object.metadata, definition),
      ...definition.validate(object, admission),
    ];
    if (errors.length === 0) {
      errors.push(...definition.allocate?.(object, admission) ?? []);
    }
    if (errors.length > 0) {
      throw invalid(definition, object.metadata.name, errors);
    }
  }

  #put(
    definition: ResourceDefinition,
    object: KubeObject,
    previous: KubeObject | undefined,
  ): KubeObject {
    const limit = definition.maxObjects ?? Infinity;
    if (
      previous === undefined && this.#store.count(definition.plural) >= limit
    ) {
      this.#remove(definition, this.#store.oldest(definition.plural)!);
    }
    definition.written?.(previous, object);
    return this.#store.put(definition.plural, object);
  }

  #remove(definition: ResourceDefinition, object: KubeObject): KubeObject {
    definition.written?.(object, undefined);
    this.#applied.delete(text(object.metadata.uid));
    return this.#store.delete(definition.plural, storeKey(object.metadata))!;
  }

  #ensureNamespace(name: string | undefined): void {
    const { plural } = this.#namespaces;
    if (this.#store.get(plural, name!) !== undefined) return;
    this.create(this.#namespaces, { metadata: { name } }, { namespace: "" });
  }
}

const PATCH_OPTIONS = {
  group: "meta.k8s.io",
  plural: "patchoptions",
  kind: "PatchOptions",
};
