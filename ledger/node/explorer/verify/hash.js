// Blake3 in its key-derivation mode: the context says what is hashed.

import { blake3 } from '../vendor/noble-hashes/blake3.js';
import { hex, utf8 } from './bytes.js';

/** The hash of bytes within a domain, such as `header`, in hexadecimal digits. */
export function hash(domain, bytes) {
  return hex(blake3(bytes, { context: utf8(`zos ledger 2026-11 ${domain}`) }));
}

/** The hash of nothing. */
export const ZERO = '0'.repeat(64);
