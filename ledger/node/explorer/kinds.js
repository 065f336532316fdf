// What is known of each kind of record: how it is called, where it leads, how its fields look.

import { el, link } from './dom.js';
import { bytes, count, duration, short, time, tokens, word } from './format.js';
import { ZERO } from './verify/hash.js';
import { KINDS } from './verify/schema.js';

/** The names of all kinds. */
export const NAMES = KINDS.filter(Boolean);

/** States that records of a kind can be in. */
export const STATES = {
  contract: ['agreed', 'deploying', 'active', 'suspended', 'expired', 'cancelled', 'failed'],
  node: ['joined', 'active', 'degraded', 'gone', 'expelled'],
  terms: ['open', 'closed'],
};

/** Where a record is shown. */
export const place = (kind, id) => `#/record/${encodeURIComponent(kind)}/${encodeURIComponent(id)}`;
/** Where records of a kind are listed. */
export const search = (query) => `#/search?${new URLSearchParams(query)}`;

/** The state of a record in one word, or null. */
export function stateOf({ body }) {
  if (body.terms) return body.terms.open ? 'open' : 'closed';
  return body.contract?.state.state ?? body.node?.state.state ?? null;
}

/** What a record is called, where it has a name of its own. */
export function titleOf({ body }) {
  const [kind, says] = Object.entries(body)[0];
  const own = { entity: says.name, farm: says.name, image: says.name, name: says.label, node: says.hardware, channel: says.label,
    release: says.signed?.manifest?.name }[kind];
  return own || null;
}

/** Two capital letters. */
export const country = (letters) => String.fromCharCode(...letters);

/** Degrees of millionths of a degree. */
export const degrees = (micro) => (micro / 1e6).toFixed(4);

/** Records that belong to one. */
export function related(kind, id, says) {
  const all = {
    entity: [['Account', place('account', id)], ['Farms', search({ kind: 'farm', of: id })],
      ['Contracts', search({ kind: 'contract', of: id })], ['Images', search({ kind: 'image', of: id })]],
    farm: [['Nodes', search({ kind: 'node', of: id })], ['Terms', search({ kind: 'terms', of: id })]],
    node: [['Contracts', search({ kind: 'contract', of: id })], ['What is reserved', place('assignments', id)]],
    contract: [['Escrow', place('escrow', id)]],
    escrow: [['Contract', place('contract', id)]],
    assignments: [['Node', place('node', id)]],
    account: [['Whose it is', search({ q: id })]],
    channel: [['Releases', search({ kind: 'release', of: id })]],
    name: says.owner ? [['For whom it stands', place('entity', says.owner)]] : [],
  };
  return all[kind] ?? [];
}

const LINKS = { owner: 'entity', customer: 'entity', farmer: 'entity', farm: 'farm', node: 'node', contracts: 'contract', terms: 'terms', image: 'image',
  channel: 'channel' };
const TIMES = ['time', 'seen', 'until', 'since', 'at', 'began', 'acknowledge_by', 'run_by', 'valid_until'];
const MONEY = ['balance', 'price', 'deposited', 'held', 'paid', 'returned', 'withheld', 'name_deposit', 'cru_hour', 'mru_gib_hour', 'sru_gib_hour', 'hru_gib_hour'];
const BYTES = ['mru', 'sru', 'hru', 'size'];

const isNumber = (value) => typeof value === 'number' || typeof value === 'bigint';
/** Hashes, keys and signatures. */
const isDigits = (value) => typeof value === 'string' && /^([0-9a-f]{64}){1,2}$/.test(value);

/** How a field of a record looks; `way` are the names that lead to it, those of entries of a list are numbers. */
export function field(way, value) {
  const named = way.filter((step) => typeof step === 'string');
  const [name, parent] = [named.at(-1), named.at(-2)];
  if (value === null) return 'none';
  if (typeof value === 'boolean') return value ? 'yes' : 'no';
  if (isDigits(value)) return digitsField(name, way, value);
  if (!isNumber(value)) return String(value) || 'empty';
  if (name.endsWith('_ms')) return duration(value);
  if (name.endsWith('_permille')) return `${Number(value) / 10} %`;
  if (MONEY.includes(name) || (name === 'deposit' && parent === 'name')) return tokens(value);
  if (TIMES.includes(name)) return time(value);
  if (BYTES.includes(name)) return bytes(value);
  if (name === 'latitude' || name === 'longitude') return `${degrees(value)}°`;
  return count(value);
}

function digitsField(name, way, value) {
  if (value === ZERO) return 'none';
  const kind = value.length === 64 && LINKS[name];
  // Terms and images are named with the version that was seen.
  const isVersion = (name === 'terms' || name === 'image') && way.at(-1) === 1;
  const text = el('code', { class: 'digits' }, value);
  return kind && !isVersion ? link(place(kind, value), text) : text;
}

/** A list of numbers that is one value to people, or null. */
export function joined(name, value) {
  if (name === 'country') return country(value);
  if (name === 'salt') return value.map((byte) => byte.toString(16).padStart(2, '0')).join('');
  if (name === 'periods' && Array.isArray(value)) return `${count(value[0])} to ${count(value[1])}`;
  return null;
}

/** Who made a version. */
export function author(id) {
  return id === ZERO ? 'a rule of the chain' : link(search({ q: id }), short(id));
}

/** A field's name for people. */
export const label = (name) =>
  ({ cru: 'threads', mru: 'memory', sru: 'solid-state storage', hru: 'rotating storage' })[name] ?? word(name).replace(/ (ms|permille)$/, '');
