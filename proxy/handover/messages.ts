/**
 * What two processes say to each other while one takes over from the other: a
 * line of JSON each. In: lines. Out: messages, or that a line is none. Pure.
 *
 * `./README.md` draws the conversation.
 *
 * @module
 */
import type { SocketLabel } from "../engine/listening_sockets.ts";

/** Another number for another conversation; both sides must speak the same. */
export const PROTOCOL = 1;

/** Of the process that takes over. */
export type TakerMessage =
  /** `channel`: where descriptors can be sent; missing without FFI. */
  | {
    readonly type: "hello";
    readonly protocol: number;
    readonly version: string;
    readonly channel?: string;
  }
  /** What came through the channel: it is the same process that speaks here. */
  | { readonly type: "proof"; readonly proof: string }
  /** It knows the cluster, and would steer now. */
  | { readonly type: "now" }
  /** The sockets of the last message have arrived. */
  | { readonly type: "got" }
  /** It serves everything. */
  | { readonly type: "done" };

/** Of the process that hands over. */
export type GiverMessage =
  /** A word has been sent through the channel. */
  | { readonly type: "prove" }
  | { readonly type: "ready"; readonly version: string }
  /**
   * What is under way here takes longer than an answer has; said again and
   * again.
   */
  | { readonly type: "wait" }
  /** Not before it is told to stop. */
  | { readonly type: "later"; readonly reason: string }
  /** Not now: it may ask again. */
  | { readonly type: "no"; readonly reason: string }
  /** Their descriptors have been sent through the channel, in this order. */
  | { readonly type: "sockets"; readonly sockets: readonly SocketLabel[] }
  /** So has that of the network namespace which has this path here. */
  | { readonly type: "namespace"; readonly path: string }
  /** Nothing is steered here any more: it is the other's to do. */
  | { readonly type: "all" }
  /**
   * It took too long, here or there: here everything goes on as before. After
   * `all` for good; before, the other one may ask again.
   */
  | { readonly type: "given up"; readonly reason: string }
  /** Nothing is listened on here any more, and the lock is free. */
  | { readonly type: "yours" };

export type Message = TakerMessage | GiverMessage;

/** `undefined`: not a message. Its fields are believed only after `proof`. */
export function parseMessage(line: string): Message | undefined {
  try {
    const value: unknown = JSON.parse(line);
    const isMessage = typeof value === "object" && value !== null &&
      "type" in value && typeof value.type === "string";
    return isMessage ? value as Message : undefined;
  } catch {
    return undefined;
  }
}

/** What anybody may say, checked. */
export interface Hello {
  readonly protocol: number;
  readonly version: string;
  readonly channel: string | undefined;
}

/** `undefined`: not a `hello`. */
export function parseHello(line: string): Hello | undefined {
  const message = parseMessage(line);
  if (message?.type !== "hello") return undefined;
  const { protocol, version, channel } = message as Partial<Hello>;
  const isHello = typeof protocol === "number" &&
    typeof version === "string" && /^[\w.+-]{1,32}$/.test(version) &&
    (channel === undefined || /^kube-portal-[\w-]{1,64}$/.test(channel));
  return isHello ? { protocol, version, channel } : undefined;
}
