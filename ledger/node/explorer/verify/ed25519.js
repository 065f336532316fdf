// The one predicate by which signatures are valid here: `verify_strict`. The library's own `verify` multiplies by the cofactor and
// so holds some signatures valid that validators refuse.

import { Point } from '../vendor/noble-ed25519/index.js';
import { sha512 } from '../vendor/noble-hashes/sha2.js';
import { concat, equal, integer } from './bytes.js';

const ORDER = Point.CURVE().n;

/** The point of a canonical encoding, if it is one of large order. */
function point(bytes) {
  try {
    const decoded = Point.fromBytes(bytes);
    return decoded.isSmallOrder() ? null : decoded;
  } catch {
    return null;
  }
}

/** Whether 64 bytes are a signature of a message by a key of 32 bytes: R = sB - kA, without the cofactor. */
export function verifyStrict(key, message, signature) {
  const [r, s] = [signature.subarray(0, 32), integer(signature.subarray(32))];
  const a = point(key);
  if (signature.length !== 64 || s >= ORDER || !a || !point(r)) return false;
  const k = integer(sha512(concat(r, key, message))) % ORDER;
  const expected = Point.BASE.multiply(s, false).subtract(a.multiply(k, false));
  return equal(expected.toBytes(), r);
}
