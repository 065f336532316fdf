// The versions of a record, drawn as the chain that they are: each holds the hash of the one before.

import { get, path } from '../api.js';
import { el, link } from '../dom.js';
import { count, plural, short } from '../format.js';
import { author, stateOf } from '../kinds.js';
import { badge } from './parts.js';
import { changes } from './says.js';

const PAGE = 20;
const CHANGES_SHOWN = 6;

function changeList(before, after) {
  const all = changes(after.kind, Object.values(before.body)[0], Object.values(after.body)[0]);
  const row = (change) => el('li', {}, el('span', { class: 'quiet' }, `${change.name}: `),
    change.before !== null && [el('del', {}, change.before), ' → '], change.after === null ? 'gone' : el('ins', {}, change.after));
  const rest = all.slice(CHANGES_SHOWN);
  return el('div', {},
    el('ul', { class: 'changes' }, all.slice(0, CHANGES_SHOWN).map(row)),
    rest.length > 0 && el('details', {}, el('summary', {}, `${plural(rest.length, 'change')} more`), el('ul', { class: 'changes' }, rest.map(row))));
}

function versionCard(version, before) {
  const first = version.version === 1;
  return el(
    'li',
    { class: 'version', 'data-version': version.version, 'data-hash': version.hash },
    el('p', { class: 'row' }, el('strong', {}, `Version ${count(version.version)}`), badge(stateOf(version)), el('span', { class: 'mark', 'aria-hidden': 'true' })),
    el('p', { class: 'quiet' }, link(`#/block/${version.height}`, version.height === 0 ? 'genesis' : `block ${count(version.height)}`), ', by ', author(version.author)),
    el('p', { class: 'hashes' }, 'hash ', el('code', { title: version.hash }, short(version.hash)),
      first ? ', the first' : [', links to ', el('code', { title: version.previous }, short(version.previous))]),
    before ? changeList(before, version) : first && el('p', { class: 'quiet' }, 'The record begins.'),
  );
}

/** The history of a record, and which of its versions are shown. */
export class HistoryView {
  constructor(kind, id, signal) {
    Object.assign(this, { kind, id, signal, versions: [], next: undefined });
    this.list = el('ol', { class: 'history', id: 'history', reversed: true });
    this.older = el('button', { type: 'button', id: 'older', hidden: true, click: () => this.load().catch((error) => this.#say(error.message)) }, 'Older versions');
    this.note = el('p', { class: 'quiet', role: 'status' });
    this.element = el('div', {}, this.list, this.older, this.note);
  }

  #say(text) {
    this.note.textContent = text;
  }

  /** Loads a page: the newest, or what is before. One more is asked for, so that each has one to differ from. */
  async load() {
    const answer = await get(path(['records', this.kind, this.id, 'history'], { from: this.next, limit: PAGE + 1 }), this.signal);
    const shown = answer.versions.length > PAGE ? answer.versions.slice(0, PAGE) : answer.versions;
    this.next = answer.versions.length > PAGE ? answer.versions[PAGE].hash : answer.next;
    this.versions.push(...shown);
    this.list.append(...shown.map((version, index) => versionCard(version, answer.versions[index + 1])));
    this.older.hidden = !this.next;
    this.#say(`${plural(this.versions.length, 'version')} shown${this.next ? '' : ', which is all'}`);
  }

  /** Shows whether those versions that are there now are verified. */
  mark(verified) {
    for (const version of this.list.children) version.classList.toggle('verified', verified);
  }
}
