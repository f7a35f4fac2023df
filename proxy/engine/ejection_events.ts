/**
 * What both engines log of ejected endpoints, so that both say the same. In: an
 * endpoint. Out: an event for whoever counts and writes them.
 *
 * @module
 */

/** Something to log that may happen often; `kind` is what makes two the same. */
export interface LoggedEvent {
  readonly kind: string;
  readonly message: string;
  readonly properties: Readonly<Record<string, unknown>>;
}

/** @param forMs milliseconds until one connection tries it again */
export function ejected(endpoint: string, forMs: number): LoggedEvent {
  return {
    kind: `ejected ${endpoint}`,
    message: "Passing over an endpoint until it answers",
    properties: { endpoint, trialInSeconds: forMs / 1_000 },
  };
}

export function answersAgain(endpoint: string): LoggedEvent {
  return {
    kind: `answers ${endpoint}`,
    message: "An endpoint that was passed over answers again",
    properties: { endpoint },
  };
}
