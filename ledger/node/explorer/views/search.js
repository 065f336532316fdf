// Searching: a height, name, id or hash; or records of a kind by filters.

import { get, path } from '../api.js';
import { el, link } from '../dom.js';
import { count, word } from '../format.js';
import { NAMES, STATES } from '../kinds.js';
import { live } from '../live.js';
import { badge, card, recordRow } from './parts.js';

const OFFERS = ['node', 'terms'];
const PLACED = ['farm', 'node', 'terms'];
/** Filters, and the kinds of record that have them; no kinds: all. */
const FILTERS = [
  ['of', 'Belongs to', { placeholder: 'id of an owner, farm, node, customer', class: 'long' }],
  ['country', 'Country', { placeholder: 'BE', maxlength: 2, kinds: PLACED }],
  ['near', 'Near', { placeholder: '51.05,3.72', kinds: PLACED }],
  ['km', 'Within km', { inputmode: 'numeric', placeholder: '500', kinds: PLACED }],
  ['cru', 'Free threads', { inputmode: 'numeric', placeholder: '4', kinds: OFFERS }],
  ['mru', 'Free memory', { placeholder: '8GiB', kinds: OFFERS }],
  ['sru', 'Free solid-state', { placeholder: '100GiB', kinds: OFFERS }],
  ['hru', 'Free rotating', { placeholder: '1TiB', kinds: OFFERS }],
  ['max_price', 'Most tokens an hour', { inputmode: 'decimal', placeholder: '0.1', kinds: OFFERS }],
];

function labelled(name, text, control, attributes = {}) {
  return el('div', { class: 'field', 'data-filter': name, ...attributes }, el('label', { for: `filter-${name}` }, text), control);
}

function filterForm(query) {
  const option = (value, chosen, text = word(value)) => el('option', { value, selected: value === chosen }, text);
  const kind = el('select', { id: 'filter-kind', name: 'kind' }, NAMES.map((name) => option(name, query.get('kind') ?? 'node')));
  const state = el('select', { id: 'filter-state', name: 'state' });
  const inputs = FILTERS.map(([name, text, { kinds, class: look, ...attributes }]) => {
    const input = el('input', { id: `filter-${name}`, name, value: query.get(name) ?? '', autocomplete: 'off', spellcheck: 'false', ...attributes });
    return labelled(name, text, input, { class: look ? `field ${look}` : 'field', 'data-kinds': kinds?.join(' ') });
  });
  const states = labelled('state', 'State', state);
  // What a kind does not have is neither shown nor sent.
  const fit = () => {
    const has = STATES[kind.value] ?? [];
    state.replaceChildren(option('', '', 'any'), ...has.map((name) => option(name, query.get('state'))));
    const show = (field, shown) => {
      field.hidden = !shown;
      field.querySelector('input, select').disabled = !shown;
    };
    show(states, has.length > 0);
    for (const field of inputs) show(field, !field.dataset.kinds || field.dataset.kinds.split(' ').includes(kind.value));
  };
  kind.addEventListener('change', fit);
  fit();
  const submit = (event) => {
    event.preventDefault();
    const given = [...new FormData(event.target)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
    location.hash = `#/search?${new URLSearchParams(given)}`;
  };
  return el('form', { class: 'filters', id: 'filters', submit }, labelled('kind', 'Kind', kind), states, inputs,
    el('div', { class: 'field' }, el('button', { type: 'submit', id: 'filter-button' }, 'Search')));
}

function emptyText(q) {
  return el('p', { id: 'none' }, q ? `Nothing has the height, name, id or hash “${q}”.` : 'Nothing fits.');
}

async function found(q, signal) {
  const { block, records } = await get(path(['search'], { q }), signal);
  if (block === null && records.length === 0) return [emptyText(q)];
  return [
    block !== null && el('p', {}, link(`#/block/${block}`, `Block ${count(block)}`)),
    el('ul', { class: 'plain-list', id: 'results' }, records.map(recordRow)),
  ].filter(Boolean);
}

/** A page of records, and a button for the next one. */
async function listed(query, signal) {
  const { kind, ...filters } = query;
  const list = el('ul', { class: 'plain-list', id: 'results' });
  const more = el('button', { type: 'button', id: 'more', hidden: true }, 'More');
  const note = el('p', { class: 'quiet', role: 'status' });
  let after;
  const load = async () => {
    more.disabled = true;
    const page = await get(path(['records', kind], { ...filters, after, limit: 50 }), signal);
    list.append(...page.records.map(recordRow));
    after = page.next;
    more.hidden = !after;
    more.disabled = false;
    const shown = list.children.length;
    note.textContent = shown === 0 && !after ? 'Nothing fits.' : `${count(shown)} shown, as after block ${count(page.height)}${after ? '; there may be more' : ''}`;
  };
  more.addEventListener('click', () => load().catch(({ message }) => (note.textContent = message)));
  await load();
  return [note, list, more];
}

/** Shows the search, and what was found. */
export async function results(view) {
  live.watch();
  const { q, ...query } = Object.fromEntries(view.query);
  const place = el('div', {}, el('p', { class: 'quiet' }, 'Searching…'));
  const chosen = query.kind ?? 'node';
  view.put(
    'Search',
    el('h1', {}, q ? 'Found' : 'Search'),
    card('Filters', { hidden: Boolean(q) }, filterForm(view.query)),
    card('Results', {}, el('p', {}, q ? el('code', { class: 'digits' }, q) : badge(chosen)), place),
  );
  try {
    place.replaceChildren(...(q ? await found(q, view.signal) : await listed({ ...query, kind: chosen }, view.signal)));
  } catch (error) {
    if (!view.signal.aborted) place.replaceChildren(el('p', { class: 'bad', role: 'alert', id: 'search-error' }, error.message));
  }
}
