// What stands on the chain, as docs/format/ledger.md lays it out, in the form of the API's JSON.

import {
  array, bool, checked, constant, digits, i32, list, option, raw, set, struct, text, tuple, u16, u32, u64, u8, union,
} from './borsh.js';

const hash = digits(32);
const key = digits(32);
const signature = digits(64);

const keys = struct({ signing: key, link: key, encryption: key });
const resources = struct({ cru: u64, mru: u64, sru: u64, hru: u64 });
const blob = struct({ hash, size: u64 });

const ipv6 = (groups) => {
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    const [high, low] = groups.slice(6);
    return `::ffff:${high >> 8}.${high & 255}.${low >> 8}.${low & 255}`;
  }
  const join = (part) => part.map((group) => group.toString(16)).join(':');
  let [from, length] = [0, 0];
  for (let start = 0; start < 8; start += 1) {
    let end = start;
    while (end < 8 && groups[end] === 0) end += 1;
    if (end - start > length) [from, length] = [start, end - start];
  }
  return length > 1 ? `${join(groups.slice(0, from))}::${join(groups.slice(from + length))}` : join(groups);
};
const group = (reader) => (u8(reader) << 8) | u8(reader);
const address = union([
  (reader) => `${array(4, u8)(reader).join('.')}:${u16(reader)}`,
  (reader) => `[${ipv6(array(8, group)(reader))}]:${u16(reader)}`,
]);

const validator = struct({ key, link: key, power: u64 });
/** Validators of a block. */
export const validatorSet = struct({ validators: list(validator) });

const account = struct({ balance: u64, nonce: u64, last: hash });
const entity = struct({ keys, name: text(64), addresses: list(address), recovery: option(key) });

const location = struct({ country: array(2, u8), latitude: i32, longitude: i32 });
const enrolment = struct({ key, remaining: u32, until: u64 });
const farm = struct({ owner: hash, name: text(64), location, enrolments: list(enrolment) });

const nodeState = union([
  struct({ state: constant('joined'), until: u64 }),
  struct({ state: constant('active'), seen: u64, until: u64 }),
  struct({ state: constant('degraded'), since: u64, until: u64 }),
  struct({ state: constant('gone'), since: u64 }),
  struct({ state: constant('expelled') }),
]);
const node = struct({
  farm: hash,
  keys,
  capacity: resources,
  addresses: list(address),
  hardware: text(128),
  refused_disks: list(struct({ disk: text(64), reason: text(160) })),
  state: nodeState,
});

const rule = struct({
  period_ms: u64,
  grace_ms: u64,
  acknowledge_ms: u64,
  deploy_ms: u64,
  suspend_ms: u64,
  tolerance_permille: u16,
  unconfirmed_permille: u16,
  missed_limit: u32,
  dispute_limit: u32,
});
const prices = struct({ cru_hour: u64, mru_gib_hour: u64, sru_gib_hour: u64, hru_gib_hour: u64 });
const terms = struct({ farm: hash, prices, periods: tuple(u32, u32), rule, open: bool });

const agreement = struct({
  customer: hash,
  farmer: hash,
  terms: tuple(hash, hash),
  node: hash,
  resources,
  price: u64,
  periods: u32,
  deposit: u32,
  rule,
  image: tuple(hash, hash),
  sealed: blob,
  valid_until: u64,
  salt: array(16, u8),
});
const claim = struct({ up_ms: u64 });
const failure = union([
  struct({ failure: constant('not-acknowledged') }),
  struct({ failure: constant('not-deployed') }),
  struct({ failure: constant('not-served') }),
  struct({ failure: constant('disputed') }),
  struct({ failure: constant('not-paid') }),
  struct({ failure: constant('refused'), reason: text(160) }),
]);
const contractState = union([
  struct({ state: constant('agreed'), acknowledge_by: u64 }),
  struct({ state: constant('deploying'), run_by: u64 }),
  struct({
    state: constant('active'),
    began: u64,
    period: u32,
    price: u64,
    report: option(claim),
    receipt: option(claim),
    missed: u32,
  }),
  struct({ state: constant('suspended'), since: u64, until: u64, period: u32, missed: u32 }),
  struct({ state: constant('expired'), at: u64 }),
  struct({ state: constant('cancelled'), at: u64 }),
  struct({ state: constant('failed'), at: u64, reason: failure }),
]);
const contract = struct({
  signed: struct({ agreement, customer: signature, farmer: signature }),
  replaces: option(hash),
  amendments: u32,
  state: contractState,
  funded: u32,
  disputes: u32,
});
const escrow = struct({ customer: hash, farmer: hash, deposited: u64, held: u64, paid: u64, returned: u64, withheld: u64 });

const image = struct({ owner: hash, name: text(128), root: blob, config: blob });
const assignments = struct({ contracts: set(hash), reserved: resources });
const charter = struct({
  validators: validatorSet,
  protocol: u32,
  upgrade: option(struct({ protocol: u32, from: u64 })),
  attest_ms: u64,
  name_deposit: u64,
});

const step = union([, constant('Prevote'), constant('Precommit')]);
const pair = union([
  struct({ votes: tuple(step, array(2, tuple(option(hash), signature))) }),
  struct({ proposals: array(2, tuple(hash, option(u32), signature)) }),
]);
const misconduct = struct({ validator: key, height: u64, round: u32, pair });

const isLabel = (label) =>
  label.length >= 3 && /^[a-z0-9]+(-[a-z0-9]+)*$/.test(label) && !/^[0-9a-f]{8}$/.test(label);
const label = checked(text(32), isLabel);
const name = struct({ label, owner: option(hash), deposit: u64 });

const releaseKeys = struct({ threshold: u8, keys: list(key) });
const signatures = list(struct({ key, signature }));
const rotation = struct({ channel: hash, number: u32, keys: releaseKeys, owner: hash });
const channel = struct({
  label,
  owner: hash,
  keys: releaseKeys,
  rotations: u32,
  rotation: option(struct({ rotation, signatures })),
  newest: u64,
  staged: u8,
});
const manifest = struct({ channel: hash, number: u64, name: text(32), image: blob });
const release = struct({ signed: struct({ manifest, signatures }), rotations: u32, permille: u16 });

/** Kinds of record, by their tags. */
export const KINDS = [
  null, 'account', 'entity', 'farm', 'node', 'terms', 'contract', 'escrow', 'image', 'assignments', 'charter', 'misconduct', 'name',
  'channel', 'release',
];
const bodies = { account, entity, farm, node, terms, contract, escrow, image, assignments, charter, misconduct, name, channel, release };
const body = union(KINDS.map((kind) => kind && struct({ [kind]: bodies[kind] })));

/** One version of a record. */
export const record = struct({ id: hash, version: u64, previous: hash, author: hash, height: u64, body });
/** Versions of a record, each with its bytes. */
export const versions = list(raw(record));

const proof = struct({ siblings: list(hash), end: option(tuple(hash, hash)) });
/** A record with its bytes, and the way from it to the state root. */
export const recordProof = struct({ record: option(raw(record)), proof });

const header = struct({
  chain: hash,
  height: u64,
  time: u64,
  previous: hash,
  transactions: hash,
  state: hash,
  validators: hash,
  next_validators: hash,
  proposer: key,
});
const certificate = struct({
  height: u64,
  round: u32,
  block: hash,
  signatures: list(struct({ validator: key, signature })),
});
/** A header with its bytes, its certificate, and the set that it hands over to. */
export const certifiedHeader = struct({ header: raw(header), certificate, handover: option(raw(validatorSet)) });
/** What `proof.borsh` gives. */
export const provenRecord = struct({ head: certifiedHeader, proof: recordProof });

const issuance = union([
  constant('fixed'),
  struct({ scheduled: struct({ beneficiary: u32, per_block: u64, until: u64 }) }),
]);
/** What a chain begins with. */
export const genesis = struct({
  name: text(64),
  time: u64,
  block_interval_ms: u32,
  attest_ms: u64,
  name_deposit: u64,
  validators: raw(validatorSet),
  entities: list(struct({ entity, balance: u64 })),
  issuance,
});

/** The kind of a record. */
export const kindOf = (one) => Object.keys(one.body)[0];
