// Verifying what is shown of a record: from the pinned genesis hash to the head, to the record, and back through its history.

import { get, getBytes, path } from '../api.js';
import { count, plural } from '../format.js';
import { unhex } from './bytes.js';
import { ZERO } from './hash.js';
import { History, LightClient, Refused, read } from './light.js';
import * as schema from './schema.js';

/** Pages of a hundred versions after which the history is left, unless more of it is shown. */
const PAGES = 50;

/** Follows the chain for as long as the page stands, so that nothing older than what was verified is believed. */
let follower = null;
/** What is under way: one at a time. */
let working = Promise.resolve();

async function begin(chain, signal) {
  const { borsh } = await get('/v1/genesis', signal);
  return new LightClient(chain, unhex(borsh));
}

/** Walks the handovers below a height. */
async function walk(client, height, signal) {
  let [walked, next] = [0, client.height];
  while (next !== null) {
    const page = await get(path(['handovers'], { after: next }), signal);
    for (const one of page.handovers) {
      const certified = read(schema.certifiedHeader, unhex(one));
      if (certified.header.value.height >= height) return walked;
      await client.advance(certified);
      walked += 1;
    }
    // A page that leads no further is the last.
    next = page.next > next ? page.next : null;
  }
  return walked;
}

/** Whether what is shown says the same as what is proven. */
function same(a, b) {
  const nested = (value) => value !== null && typeof value === 'object';
  // A browser that does not keep what no number says exactly shows the nearest one.
  if (typeof a === 'number' && typeof b === 'bigint') return a === Number(b);
  if (!nested(a) || !nested(b)) return a === b;
  const [names, others] = [Object.keys(a), Object.keys(b)];
  const match = Array.isArray(a) === Array.isArray(b) && names.length === others.length;
  return match && names.every((name) => Object.hasOwn(b, name) && same(a[name], b[name]));
}

const FIELDS = ['id', 'version', 'hash', 'previous', 'author', 'height', 'body'];

/** What is shown and not yet found among what is proven. */
class Shown {
  constructor(versions) {
    this.left = new Map(versions.map((version) => [Number(version.version), version]));
  }

  compare(proven) {
    const shown = this.left.get(Number(proven.version));
    if (!shown) return;
    if (!FIELDS.every((name) => same(shown[name], proven[name]))) {
      throw new Refused('altered record', `what is shown of version ${proven.version} is not what was proven`);
    }
    this.left.delete(Number(proven.version));
  }

  /** What is left was never proven. */
  end() {
    const [version] = this.left.keys();
    if (version !== undefined) throw new Refused('altered record', `version ${version} is shown and was not proven`);
  }
}

async function checkHistory({ kind, id, signal }, latest, shown) {
  const history = new History(latest);
  let [pages, versions] = [0, 1];
  while (!history.ended && (pages < PAGES || shown.left.size > 0)) {
    if (history.after.previous === ZERO) history.end();
    const bytes = await getBytes(path(['records', kind, id, 'history.borsh'], { from: history.after.previous }), signal);
    const page = read(schema.versions, bytes);
    if (page.length === 0) history.end();
    for (const version of page) shown.compare(history.take(version));
    pages += 1;
    versions += page.length;
  }
  return history.ended
    ? `${plural(versions, 'version')}, each linked to the one before, back to the first`
    : `the newest ${count(versions)} versions are linked; older ones were not asked for`;
}

async function run(wanted, tell) {
  const { chain, kind, id, at, versions, signal } = wanted;
  const past = at !== undefined;
  const fresh = past || follower?.chain !== chain;
  const client = fresh ? await begin(chain, signal) : follower;
  if (!past) follower = client;
  tell('Genesis', `its bytes have the pinned hash ${chain.slice(0, 8)}`);
  const { head, proof } = read(schema.provenRecord, await getBytes(path(['records', kind, id, 'proof.borsh'], { at }), signal));
  const height = head.header.value.height;
  if (past && height !== Number(at)) throw new Refused('other block', `the proof is of block ${height}, not of ${at}`);
  const walked = await walk(client, height, signal);
  tell('Validators', `${plural(client.validators.set.validators.length, 'validator')} in force after ${plural(walked, 'handover')}`);
  await client.advance(head);
  const { signed, total, signatures } = client.quorum;
  tell('Block', `${count(height)} is certified by ${plural(signatures, 'signature')} of ${count(signed)} of ${count(total)} power`);
  const latest = client.verifyRecord(kind, id, proof);
  if (!latest) throw new Refused('altered record', 'it is proven that there is no such record');
  tell('Record', `version ${count(latest.version)} leads through ${plural(proof.proof.siblings.length, 'hash', 'hashes')} to the block's state`);
  const shown = new Shown(versions);
  shown.compare(latest);
  tell('History', await checkHistory(wanted, latest, shown));
  shown.end();
  tell('Shown', `what this page shows of ${plural(versions.length, 'version')} is what was proven`);
  return { height, latest };
}

/**
 * Verifies versions of a record that are shown: `wanted` has `chain`, `kind`, `id`, `at`, `versions`, `signal`. Tells each check that
 * held. Throws `Refused` where one did not.
 */
export function verify(wanted, tell) {
  const done = working.then(() => run(wanted, tell));
  working = done.catch(() => {});
  return done;
}
