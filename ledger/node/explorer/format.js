// How values look.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

/** An integer, with its digits in groups. */
export const count = (value) => BigInt(value).toLocaleString('en');

/** Bytes, with up to one digit after the point. */
export function bytes(value) {
  let [rest, unit] = [Number(value), 0];
  while (rest >= 1024 && unit < UNITS.length - 1) {
    rest /= 1024;
    unit += 1;
  }
  return `${Number(rest.toFixed(1))} ${UNITS[unit]}`;
}

/** Micro-tokens as tokens. */
export function tokens(micro) {
  const value = BigInt(micro);
  const part = (value % 1_000_000n).toString().padStart(6, '0').replace(/0+$/, '');
  return `${count(value / 1_000_000n)}${part && `.${part}`} ${value === 1_000_000n ? 'token' : 'tokens'}`;
}

/** Milliseconds since 1970 as a time of day in UTC. */
export function time(milliseconds) {
  const date = new Date(Number(milliseconds));
  return Number.isNaN(date.valueOf()) ? count(milliseconds) : date.toISOString().replace('T', ' ').replace(/\.\d+Z$/, ' UTC');
}

/** A length of time. */
export function duration(milliseconds) {
  const value = Number(milliseconds);
  for (const [size, name] of [[86_400_000, 'd'], [3_600_000, 'h'], [60_000, 'min'], [1_000, 's']]) {
    if (value >= size) return `${Number((value / size).toFixed(1))} ${name}`;
  }
  return `${value} ms`;
}

/** The first digits of a hash, for people; not unique. */
export const short = (digits) => String(digits).slice(0, 8);

/** One and several. */
export const plural = (number, one, several = `${one}s`) => `${count(number)} ${BigInt(number) === 1n ? one : several}`;

/** A word of the interface for people. */
export const word = (text) => String(text).replaceAll('_', ' ').replaceAll('-', ' ');
