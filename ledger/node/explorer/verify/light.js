// The light client: trusts the hash of the genesis and nothing else. `ledger/core/src/light.rs` is the same in Rust.

import { Malformed, decode } from './borsh.js';
import { concat, littleEndian, unhex, utf8 } from './bytes.js';
import { verifyStrict } from './ed25519.js';
import { ZERO, hash } from './hash.js';
import * as schema from './schema.js';
import { pathOf, provenValue } from './tree.js';

/** Something is not believed; `check` names the check that failed. */
export class Refused extends Error {
  constructor(check, message) {
    super(message);
    this.check = check;
  }
}

function refuse(check, message) {
  throw new Refused(check, message);
}

/** Decodes what a peer sent. */
export function read(what, bytes) {
  try {
    return decode(what, bytes);
  } catch (error) {
    if (error instanceof Malformed) refuse('malformed', error.message);
    throw error;
  }
}

const MOST = 1n << 63n;
const MOST_VALIDATORS = 100;

/** Why validators form no set, or null. */
function brokenSet({ validators }) {
  if (validators.length < 1 || validators.length > MOST_VALIDATORS) return 'a validator set has 1 to 100 members';
  if (validators.some(({ key }, index) => index > 0 && key <= validators[index - 1].key)) return 'validators are not in order';
  if (new Set(validators.map(({ link }) => link)).size < validators.length) return 'two validators have the same link key';
  const sum = validators.reduce((total, { power }) => total + BigInt(power), 0n);
  return sum >= MOST || validators.some(({ power }) => power < 1) ? 'voting powers are out of bounds' : null;
}

/** Why a genesis starts no chain, or null. */
function brokenGenesis(genesis) {
  const set = brokenSet(genesis.validators.value);
  if (set) return set;
  if (genesis.block_interval_ms < 100 || genesis.block_interval_ms > 60_000) return 'block_interval_ms is out of bounds';
  if (genesis.attest_ms < 10_000 || genesis.attest_ms > 604_800_000) return 'attest_ms is out of bounds';
  const ids = new Set(genesis.entities.map(({ entity: { keys } }) => keys.signing + keys.link + keys.encryption));
  if (ids.size < genesis.entities.length || ids.size > 256) return 'entities are too many or have the same keys';
  let supply = genesis.entities.reduce((sum, { balance }) => sum + BigInt(balance), 0n);
  const scheduled = genesis.issuance.scheduled;
  if (scheduled) {
    if (scheduled.beneficiary >= genesis.entities.length) return 'the issuance names an entity that does not exist';
    supply += BigInt(scheduled.per_block) * BigInt(scheduled.until);
  }
  return supply < MOST ? null : 'the supply is out of bounds';
}

/** The bytes that a validator signs to commit a block. */
function precommit(chain, { height, round, block }) {
  const [precommitStep, some] = [Uint8Array.of(2), Uint8Array.of(1)];
  const vote = concat(precommitStep, littleEndian(height, 8), littleEndian(round, 4), some, unhex(block));
  return concat(utf8('zos-vote\0'), unhex(chain), vote);
}

/** Lets the page draw and answer between two signatures. */
const breathe = () => new Promise((resolve) => setTimeout(resolve));

/** Checks that more than two thirds of the power have signed; gives what signed and what there is. */
async function checkQuorum(chain, certificate, { validators }) {
  const bad = (message) => refuse('forged certificate', message);
  const members = new Map(validators.map((validator) => [validator.key, validator]));
  const [message, seen] = [precommit(chain, certificate), new Set()];
  let signed = 0n;
  for (const { validator, signature } of certificate.signatures) {
    const member = members.get(validator);
    if (!member) bad(`a signature is of ${validator}, which is no validator of the set`);
    if (seen.has(validator)) bad(`two signatures are of ${validator}`);
    seen.add(validator);
    await breathe();
    if (!verifyStrict(unhex(validator), message, unhex(signature))) bad(`a signature of ${validator} is forged`);
    signed += BigInt(member.power);
  }
  const total = validators.reduce((sum, { power }) => sum + BigInt(power), 0n);
  if (signed * 3n <= total * 2n) bad(`${signed} of ${total} voting power have signed, more than two thirds are needed`);
  return { signed, total, signatures: seen.size };
}

/** What was verified so far of one chain. */
export class LightClient {
  /** Starts from the bytes of a genesis, if they are those whose hash is trusted. */
  constructor(trusted, bytes) {
    const genesis = read(schema.genesis, bytes);
    const actual = hash('genesis', bytes);
    if (actual !== trusted) refuse('wrong genesis', `its hash is ${actual}, expected ${trusted}`);
    const broken = brokenGenesis(genesis);
    if (broken) refuse('bad genesis', broken);
    this.chain = trusted;
    this.validators = { set: genesis.validators.value, hash: hash('validators', genesis.validators.bytes) };
    this.head = null;
    this.quorum = null;
  }

  /** Height of the newest verified header, 0 before the first. */
  get height() {
    return this.head ? this.head.height : 0;
  }

  /** Verifies a newer header and trusts it from then on. */
  async advance({ header: { value: header, bytes }, certificate, handover }) {
    if (header.chain !== this.chain) refuse('other chain', `header of ${header.chain}`);
    const id = hash('header', bytes);
    if (this.head && header.height < this.head.height) {
      refuse('stale head', `height ${header.height}, but ${this.head.height} is verified`);
    }
    if (this.head && id === this.head.id) return;
    if (header.validators !== this.validators.hash) {
      refuse('wrong validator set', `header of height ${header.height} names ${header.validators}, in force is ${this.validators.hash}`);
    }
    if (BigInt(certificate.height) !== BigInt(header.height) || certificate.block !== id) {
      refuse('certificate of another block', `height ${certificate.height}, block ${certificate.block}`);
    }
    const quorum = await checkQuorum(this.chain, certificate, this.validators.set);
    if (this.head && this.head.height === header.height) {
      refuse('conflicting head', `block ${id} at height ${header.height}, but ${this.head.id} is verified`);
    }
    if (header.next_validators !== header.validators) this.#handOver(header, handover);
    this.head = { ...header, id };
    this.quorum = quorum;
  }

  #handOver(header, handover) {
    if (!handover) refuse('bad handover', `height ${header.height}`);
    const broken = brokenSet(handover.value);
    if (broken) refuse('bad handover set', broken);
    const named = hash('validators', handover.bytes);
    if (named !== header.next_validators) refuse('bad handover', `height ${header.height}`);
    this.validators = { set: handover.value, hash: named };
  }

  /** Checks what a peer says of a record against the verified head: its latest version with its hash, or null. */
  verifyRecord(kind, id, { record, proof }) {
    if (!this.head) refuse('no verified head', 'nothing is verified yet');
    const proven = provenValue(proof, this.head.state, pathOf(kind, id));
    if (proven.error) refuse('bad proof', proven.error);
    if (proven.value === null && !record) return null;
    const actual = record && hash('record', record.bytes);
    const is = record && actual === proven.value && schema.kindOf(record.value) === kind && record.value.id === id;
    if (is) return { ...record.value, hash: actual };
    if (kind === 'assignments') refuse('truncated contract set', `node ${id}`);
    if (!record) refuse('missing record', `${kind} ${id} was proven to exist and not sent`);
    return refuse('altered record', `${kind} ${id} is not the version that was proven`);
  }
}

/** Checks page by page that versions are the whole history before the latest one. */
export class History {
  constructor(latest) {
    this.after = latest;
    this.kind = schema.kindOf(latest);
  }

  /** Takes the version before; gives it with its hash. */
  take({ value, bytes }) {
    const { after } = this;
    const version = { ...value, hash: hash('record', bytes) };
    const follows =
      value.id === after.id &&
      schema.kindOf(value) === this.kind &&
      BigInt(value.version) + 1n === BigInt(after.version) &&
      version.hash === after.previous;
    if (!follows) this.#broken();
    this.after = version;
    return version;
  }

  /** Checks that nothing is before the last one. */
  end() {
    if (!this.ended) this.#broken();
  }

  /** Whether the last one is the first version. */
  get ended() {
    return this.after.version === 1 && this.after.previous === ZERO;
  }

  #broken() {
    refuse('broken history', `version ${this.after.version} does not link to the one before`);
  }
}
