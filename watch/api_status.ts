/**
 * An answer that is not 2xx, to the `ApiError` it stands for. API servers send
 * a Status object; what stands in front of them (load balancers, login pages)
 * sends HTML, text or nothing, of any size.
 *
 * @module
 */
import { ApiError } from "./api.ts";
import { hideSecrets, type Secret } from "./secret.ts";
import type { Status } from "./types.ts";

/** As much of an error's body is read, bytes; the rest is cancelled. */
const MAX_BODY_BYTES = 16 * 1024;

/** A body that trickles in is given up after this, milliseconds. */
const BODY_TIMEOUT_MS = 5_000;

/** As much of a body that is no Status goes into the message, characters. */
const MAX_TEXT_LENGTH = 200;

/**
 * Reads (a part of) the body and makes the error. Never throws because of the
 * body: a body that cannot be read is an empty one.
 *
 * @param options.step what was tried, as "Cannot list services"
 * @param options.secrets blanked in the message, should the answer repeat them
 */
export async function apiErrorOf(
  response: Response,
  options: { step: string; secrets: readonly Secret[]; nowMs: number },
): Promise<ApiError> {
  const text = await readBody(response);
  const body = parseStatus(text);
  const retryAfterSeconds = secondsOf(body?.details?.retryAfterSeconds) ??
    retryAfterHeader(response.headers.get("retry-after"), options.nowMs);
  const status: Status = {
    kind: "Status",
    code: response.status,
    reason: textOr(body?.reason, body === undefined ? response.statusText : ""),
    message: hideSecrets(
      textOr(body?.message, plainMessage(response, text)),
      options.secrets,
    ),
    ...(retryAfterSeconds !== undefined && { retryAfterSeconds }),
  };
  return new ApiError(status, options.step);
}

interface StatusBody {
  readonly reason?: unknown;
  readonly message?: unknown;
  readonly details?: { readonly retryAfterSeconds?: unknown } | null;
}

async function readBody(response: Response): Promise<string> {
  const reader = response.body?.getReader();
  if (reader === undefined) return "";
  const decoder = new TextDecoder();
  let text = "";
  let bytes = 0;
  const timer = setTimeout(() => {
    // Ends a pending read(); a rejection is the read's, too, told there.
    reader.cancel().catch(() => {});
  }, BODY_TIMEOUT_MS);
  try {
    while (bytes < MAX_BODY_BYTES) {
      const { value, done } = await reader.read();
      if (done) break;
      const chunk = value.subarray(0, MAX_BODY_BYTES - bytes);
      bytes += chunk.length;
      text += decoder.decode(chunk, { stream: true });
    }
    await reader.cancel();
  } catch {
    // Cut or aborted: the status line alone is worth telling.
  } finally {
    clearTimeout(timer);
  }
  return text + decoder.decode();
}

function parseStatus(text: string): StatusBody | undefined {
  if (!text.startsWith("{")) return undefined;
  try {
    const body = JSON.parse(text);
    return body.kind === "Status" ? body : undefined;
  } catch {
    return undefined;
  }
}

/** A page without its tags, or where a redirect points. */
function plainMessage(response: Response, text: string): string {
  const location = response.headers.get("location");
  if (location !== null) {
    // Its query may hold a login's state.
    return `redirected to "${location.replace(/[?#].*/s, "")}"`;
  }
  return text
    .replace(/<(script|style|head)\b.*?<\/\1\s*>/gis, " ")
    .replace(/<[^>]*>/g, " ")
    .replace(/[\s\p{Cc}]+/gu, " ")
    .trim()
    .slice(0, MAX_TEXT_LENGTH);
}

function textOr(value: unknown, otherwise: string): string {
  return typeof value === "string" ? value : otherwise;
}

function secondsOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) && value > 0
    ? value
    : undefined;
}

/** RFC 9110 section 10.2.3: seconds, or a date. */
function retryAfterHeader(
  value: string | null,
  nowMs: number,
): number | undefined {
  if (value === null) return undefined;
  if (/^\d+$/.test(value.trim())) return secondsOf(Number(value));
  return secondsOf(Math.ceil((Date.parse(value) - nowMs) / 1000));
}
