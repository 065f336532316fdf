// What several views draw.

import { el, link } from '../dom.js';
import { count, plural, short, time, word } from '../format.js';
import { place, stateOf, titleOf } from '../kinds.js';

/** A part of a view under a heading. */
export const card = (title, attributes, ...parts) => el('section', { class: 'card', ...attributes }, el('h2', {}, title), parts);

/** A state in one word. */
export const badge = (state) => state && el('span', { class: `badge state-${state}` }, word(state));

/** A hash in full, which may be broken anywhere. */
export const digits = (value) => el('code', { class: 'digits' }, value);

/** A record in one line. */
export function recordRow(record) {
  const title = titleOf(record);
  return el(
    'li',
    { class: 'record-row' },
    el('span', { class: 'quiet kind' }, record.kind),
    link(place(record.kind, record.id), title ? `${title} ` : '', el('code', {}, short(record.id))),
    badge(stateOf(record)),
    el('span', { class: 'quiet' }, `version ${count(record.version)}`),
  );
}

/** A block in one line. */
export function blockRow(block) {
  return el(
    'li',
    { 'data-height': block.height },
    link(`#/block/${block.height}`, `Block ${count(block.height)}`),
    el('span', { class: 'quiet' }, time(block.time)),
    el('span', {}, `${plural(block.transactions, 'transaction')}, ${plural(block.records, 'record')}`),
    el('code', { class: 'quiet' }, short(block.id)),
  );
}
