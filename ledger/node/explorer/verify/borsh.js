// Reading Borsh, canonical encodings alone. A schema is a function from a reader to a value in the form that the API's JSON has:
// hashes, keys and signatures are hexadecimal digits, integers numbers, or BigInt where a number is not exact.

import { hex, integer } from './bytes.js';

/** Bytes are no canonical encoding of what is read. */
export class Malformed extends Error {}

/** Bytes, and how far they are read. */
export class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
  }

  take(length) {
    if (length > this.bytes.length - this.at) throw new Malformed('bytes end too early');
    const part = this.bytes.subarray(this.at, this.at + length);
    this.at += length;
    return part;
  }
}

/** Reads one value that takes all bytes. */
export function decode(schema, bytes) {
  const reader = new Reader(bytes);
  const value = schema(reader);
  if (reader.at < bytes.length) throw new Malformed('bytes are left over');
  return value;
}

const exact = (value) => (value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : value);

export const u8 = (reader) => reader.take(1)[0];
export const u16 = (reader) => Number(integer(reader.take(2)));
export const u32 = (reader) => Number(integer(reader.take(4)));
export const u64 = (reader) => exact(integer(reader.take(8)));
export const i32 = (reader) => u32(reader) | 0;
export const digits = (length) => (reader) => hex(reader.take(length));

export function bool(reader) {
  const byte = u8(reader);
  if (byte > 1) throw new Malformed('neither true nor false');
  return byte === 1;
}

/** UTF-8 of at most so many bytes, without control characters. */
export const text = (most) => (reader) => {
  const length = u32(reader);
  const bytes = reader.take(length);
  let value;
  try {
    value = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Malformed('not UTF-8');
  }
  if (length > most || /\p{Cc}/u.test(value)) throw new Malformed('a text is too long or has a control character');
  return value;
};

export const array = (length, each) => (reader) => Array.from({ length }, () => each(reader));

export const list = (each) => (reader) => {
  const length = u32(reader);
  const values = [];
  for (let index = 0; index < length; index += 1) values.push(each(reader));
  return values;
};

/** A set of digits, in strictly ascending order. */
export const set = (each) => (reader) => {
  const values = list(each)(reader);
  if (values.some((value, index) => index > 0 && value <= values[index - 1])) throw new Malformed('a set is not in order');
  return values;
};

export const option = (each) => (reader) => (bool(reader) ? each(reader) : null);

export const tuple =
  (...each) =>
  (reader) =>
    each.map((one) => one(reader));

export const struct = (fields) => (reader) => {
  const value = {};
  for (const [name, each] of Object.entries(fields)) value[name] = each(reader);
  return value;
};

/** One of several, by its tag. */
export const union = (variants) => (reader) => {
  const variant = variants[u8(reader)];
  if (!variant) throw new Malformed('no such variant');
  return variant(reader);
};

/** A value that takes no bytes. */
export const constant = (value) => () => value;

/** A value with the bytes that it was read from. */
export const raw = (each) => (reader) => {
  const from = reader.at;
  const value = each(reader);
  return { value, bytes: reader.bytes.subarray(from, reader.at) };
};

/** A schema whose values are looked at once more. */
export const checked = (each, check) => (reader) => {
  const value = each(reader);
  if (!check(value)) throw new Malformed('a value is out of bounds');
  return value;
};
