// One record: what it says, whether that is proven, and what it said before.

import { get, path } from '../api.js';
import { capacityChart } from '../capacity.js';
import { el, facts, link } from '../dom.js';
import { count, duration, time, tokens } from '../format.js';
import { author, place, related, stateOf, titleOf } from '../kinds.js';
import { live } from '../live.js';
import { HistoryView } from './history.js';
import { badge, card, digits } from './parts.js';
import { says } from './says.js';
import { verifyPanel } from './verify.js';

/** A contract in short. */
function contractFacts({ contract: { signed: { agreement }, funded, amendments, disputes } }) {
  return facts([
    ['Customer', link(place('entity', agreement.customer), digits(agreement.customer))],
    ['Farmer', link(place('entity', agreement.farmer), digits(agreement.farmer))],
    ['Node', link(place('node', agreement.node), digits(agreement.node))],
    ['Price', `${tokens(agreement.price)} for ${duration(agreement.rule.period_ms)}`],
    ['Periods', `${count(funded)} of ${count(agreement.periods)} paid in`],
    ['Amended', `${count(amendments)} times`],
    ['Disputed periods', count(disputes)],
    ['Could be agreed until', time(agreement.valid_until)],
  ], 'facts even-facts');
}

/** What a node offers and what of it is reserved. */
async function nodeChart({ node }, id, signal) {
  const reserved = await get(path(['records', 'assignments', id]), signal).then(({ body }) => body.assignments.reserved, () => ({}));
  const bar = (name) => [name, { all: Number(node.capacity[name]), used: Number(reserved[name] ?? 0) }];
  return capacityChart(Object.fromEntries(['cru', 'mru', 'sru', 'hru'].map(bar)));
}

async function short(record, signal) {
  if (record.kind === 'contract') return card('In short', {}, contractFacts(record.body));
  if (record.kind === 'node') return card('Capacity', {}, await nodeChart(record.body, record.id, signal));
  return null;
}

/** Says when another version was written while this one is looked at. */
function newerNotice(record, signal) {
  const notice = el('p', { class: 'notice', role: 'status', id: 'newer', hidden: true });
  const tell = (version) => {
    notice.hidden = false;
    notice.replaceChildren(`Version ${count(version)} has been written since. `,
      el('button', { type: 'button', click: () => window.dispatchEvent(new HashChangeEvent('hashchange')) }, 'Show it'));
  };
  live.addEventListener('record', ({ detail }) => {
    if (detail.id === record.id && detail.version > record.version) tell(detail.version);
  }, { signal });
  live.addEventListener('again', () => {
    get(path(['records', record.kind, record.id]), signal).then(({ version }) => version > record.version && tell(version), () => {});
  }, { signal });
  return notice;
}

/** Shows a record, as it is or as it was after a block. */
export async function record(view, kind, id) {
  const { signal } = view;
  const at = view.query.get('at') ?? undefined;
  live.watch(at === undefined ? { kind } : {});
  const found = await get(path(['records', kind, id], { at }), signal);
  const history = new HistoryView(kind, id, signal);
  history.next = found.hash;
  const wanted = () => ({ kind, id, at, versions: [found, ...history.versions.filter(({ version }) => version !== found.version)] });
  const title = titleOf(found);
  const [panel, brief] = await Promise.all([
    verifyPanel(wanted, (verified) => history.mark(verified), signal),
    short(found, signal),
    history.load(),
  ]);
  const ways = related(kind, id, Object.values(found.body)[0]);
  view.put(
    title ?? `${kind} ${id.slice(0, 8)}`,
    el('p', { class: 'quiet kind' }, kind, at !== undefined && `, as it was after block ${count(at)}`),
    el('h1', {}, title ?? `${kind[0].toUpperCase()}${kind.slice(1)} ${id.slice(0, 8)}`, ' ', badge(stateOf(found))),
    el('p', {}, digits(id)),
    at === undefined && newerNotice(found, signal),
    ways.length > 0 && el('p', { class: 'row ways' }, ways.map(([name, to]) => link(to, name))),
    card('Verify', { id: 'verify-card' }, panel),
    brief,
    el('div', { class: 'columns' },
      card('History', { id: 'history-card' }, history.element),
      card('What it says', { id: 'says' },
        facts([
          ['Version', count(found.version)],
          ['Hash', digits(found.hash)],
          ['Written in', link(`#/block/${found.height}`, found.height === 0 ? 'the genesis' : `block ${count(found.height)}`)],
          ['By', author(found.author)],
        ]),
        says(Object.values(found.body)[0], [kind]))),
  );
}
