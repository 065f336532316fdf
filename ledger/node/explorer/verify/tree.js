// The way from a record to the root of the state tree.

import { KINDS } from './schema.js';
import { concat, unhex } from './bytes.js';
import { hash, ZERO } from './hash.js';

/** Where a record stands in the tree. */
export function pathOf(kind, id) {
  return hash('state path', concat(Uint8Array.of(KINDS.indexOf(kind)), unhex(id)));
}

const two = (domain, first, second) => hash(domain, concat(unhex(first), unhex(second)));

/** Bit of a path, counted from the most significant one of its first byte. */
function bit(path, depth) {
  return (path[depth >> 3] >> (7 - (depth & 7))) & 1;
}

/** What a proof says of a path under a root: `{ value }`, null where nothing stands; or `{ error }`. */
export function provenValue({ siblings, end }, root, path) {
  if (siblings.length > 256) return { error: 'the proof is deeper than a path' };
  const bits = unhex(path);
  let [at, value] = [ZERO, null];
  if (end) {
    const leaf = unhex(end[0]);
    if (siblings.some((_, depth) => bit(leaf, depth) !== bit(bits, depth))) {
      return { error: 'the proof ends in a leaf of another subtree' };
    }
    at = two('state leaf', end[0], end[1]);
    if (end[0] === path) value = end[1];
  }
  for (let depth = siblings.length - 1; depth >= 0; depth -= 1) {
    const beside = siblings[depth];
    at = bit(bits, depth) ? two('state branch', beside, at) : two('state branch', at, beside);
  }
  return at === root ? { value } : { error: `the proof leads to root ${at}, expected ${root}` };
}
