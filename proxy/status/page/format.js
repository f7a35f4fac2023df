// Numbers and times for people.

const whole = new Intl.NumberFormat("en");

export const count = (value) => whole.format(Math.round(value));

/** `0`, `0.4`, `12`, `1.3k`. */
export function rate(value) {
  if (value === 0) return "0";
  if (value < 10) return String(Number(value.toFixed(1)));
  return value < 10_000 ? count(value) : `${(value / 1_000).toFixed(1)}k`;
}

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"];

/** `0 B`, `12.3 kB`: steps of 1000. */
export function bytes(value) {
  let unit = 0;
  while (value >= 1_000 && unit < UNITS.length - 1) {
    value /= 1_000;
    unit++;
  }
  const digits = unit === 0 || value >= 100 ? 0 : 1;
  return `${value.toFixed(digits)} ${UNITS[unit]}`;
}

export const clock = (ms) => new Date(ms).toLocaleTimeString("en-GB");

/** `3 s`, `12 min`, `5 h`, `2 d`. */
export function span(ms) {
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 120) return `${seconds} s`;
  if (seconds < 7_200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3_600)} h`;
  return `${Math.round(seconds / 86_400)} d`;
}

export const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;
