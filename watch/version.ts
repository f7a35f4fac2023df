/**
 * Comparing resourceVersions. To a client they were opaque once; since
 * Kubernetes 1.35 (KEP-5504) their order is part of the API: they are whole
 * numbers without leading zeros.
 *
 * @module
 */

const NUMBER_REGEXP = /^(0|[1-9][0-9]*)$/;

/**
 * Negative where `a` is older than `b`, positive where it is newer, 0 where
 * they are equal; `undefined` where the two cannot be compared.
 */
export function compareVersions(a: string, b: string): number | undefined {
  if (a === b) return 0;
  if (!NUMBER_REGEXP.test(a) || !NUMBER_REGEXP.test(b)) return undefined;
  // As text: they may be larger than a number can hold exactly.
  return a.length !== b.length ? a.length - b.length : (a < b ? -1 : 1);
}
