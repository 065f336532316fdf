// One block: its header, who certified it, what it changed.

import { get, path } from '../api.js';
import { el, facts, link } from '../dom.js';
import { count, plural, short, time, word } from '../format.js';
import { author } from '../kinds.js';
import { live } from '../live.js';
import { ZERO } from '../verify/hash.js';
import { card, digits, recordRow } from './parts.js';

function transactionRow({ hash, author: by, nonce, operation }) {
  const name = typeof operation === 'string' ? operation : Object.keys(operation)[0];
  return el('li', { class: 'record-row' }, el('span', {}, word(name)), el('code', { class: 'quiet' }, short(hash)),
    el('span', { class: 'quiet' }, 'by ', author(by), `, number ${count(nonce)}`));
}

/** A list that is loaded page by page. */
function paged(height, part, row, none, signal) {
  const list = el('ul', { class: 'plain-list', id: part });
  const more = el('button', { type: 'button', hidden: true }, 'More');
  const note = el('p', { class: 'quiet', hidden: true });
  let skip;
  const load = async () => {
    const page = await get(path(['blocks', height, part], { skip }), signal);
    list.append(...page[part].map(row));
    skip = page.next ?? undefined;
    more.hidden = skip === undefined;
    note.hidden = list.children.length > 0;
    note.textContent = none;
  };
  const failed = ({ message }) => Object.assign(note, { hidden: false, textContent: message });
  more.addEventListener('click', () => load().catch(failed));
  return { parts: [note, list, more], load: () => load().catch(failed) };
}

async function header(height, signal) {
  const { header: of, certificate, handover } = await get(path(['blocks', height]), signal);
  const before = of.previous === ZERO ? link('#/block/0', 'the genesis') : link(`#/block/${of.height - 1}`, digits(of.previous));
  return el('div', {}, facts([
    ['Id', digits(of.id)],
    ['Time', time(of.time)],
    ['The block before', before],
    ['Root of the state', digits(of.state)],
    ['Transactions', digits(of.transactions_hash)],
    ['Proposed by', digits(of.proposer)],
    ['Certified by', `${plural(certificate.signed.length, 'validator')} in round ${certificate.round}`],
    handover && ['Hands over to', digits(of.next_validators)],
  ].filter(Boolean)));
}

/** Shows a block; that of height 0 is the genesis. */
export async function block(view, text) {
  live.watch();
  const isGenesis = text === '0';
  const head = isGenesis ? el('p', { class: 'quiet' }, 'What the chain began with; it is not certified but named by its hash.') : await header(text, view.signal);
  const [transactions, records] = [
    paged(text, 'transactions', transactionRow, 'It has no transaction.', view.signal),
    paged(text, 'records', recordRow, 'It changed no record.', view.signal),
  ];
  const height = Number(text);
  const name = isGenesis ? 'Genesis' : `Block ${count(height)}`;
  view.put(
    name,
    el('h1', {}, name),
    el('p', { class: 'row' }, height > 0 && link(`#/block/${height - 1}`, '← Before'), link(`#/block/${height + 1}`, 'After →')),
    card('Header', {}, head),
    !isGenesis && card('Transactions', {}, transactions.parts),
    card('Records that it wrote', {}, records.parts),
  );
  await Promise.all([isGenesis || transactions.load(), records.load()]);
}
