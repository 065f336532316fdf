// What a record says, field by field.

import { el } from '../dom.js';
import { field, joined, label } from '../kinds.js';

const NESTED = (value) => value !== null && typeof value === 'object';

/** The name of a part of what these names lead to. */
function title(name, parent) {
  if (typeof name !== 'number') return label(name);
  // Terms and images are named with the version that was seen.
  return (parent === 'terms' || parent === 'image') && name < 2 ? ['id', 'version'][name] : `${name + 1}.`;
}

function entry(way, name, value) {
  const next = [...way, name];
  const term = title(name, way.at(-1));
  const one = Array.isArray(value) ? joined(name, value) : null;
  if (one !== null || !NESTED(value)) return el('div', {}, el('dt', {}, term), el('dd', {}, one ?? field(next, value)));
  const inner = Object.entries(value);
  if (inner.length === 0) return el('div', {}, el('dt', {}, term), el('dd', { class: 'quiet' }, 'none'));
  return el('div', { class: 'group' }, el('dt', {}, term), el('dd', {}, says(value, next)));
}

/** Draws a value with its names. */
export function says(value, way = []) {
  const entries = Array.isArray(value) ? [...value.entries()] : Object.entries(value);
  return el('dl', { class: 'facts' }, entries.map(([name, inner]) => entry(way, name, inner)));
}

/** The values of a record by the names that lead to them. */
function leaves(value, way, found = new Map()) {
  const entries = Array.isArray(value) ? [...value.entries()] : NESTED(value) ? Object.entries(value) : [];
  const one = Array.isArray(value) && joined(way.at(-1), value) !== null;
  if (entries.length === 0 || one) found.set(way.slice(1).map((name, index) => title(name, way[index])).join(' › '), { way, value, one });
  else for (const [name, inner] of entries) leaves(inner, [...way, name], found);
  return found;
}

const look = ({ way, value, one }) => (one ? joined(way.at(-1), value) : NESTED(value) ? 'none' : field(way, value));
const text = (leaf) => JSON.stringify(leaf?.value, (_, value) => (typeof value === 'bigint' ? String(value) : value));

/** What differs between two versions of a record of a kind: names with the value before and after. */
export function changes(kind, before, after) {
  const [old, now] = [leaves(before, [kind]), leaves(after, [kind])];
  const names = [...new Set([...now.keys(), ...old.keys()])];
  return names
    .filter((name) => text(old.get(name)) !== text(now.get(name)))
    .map((name) => ({ name, before: old.has(name) ? look(old.get(name)) : null, after: now.has(name) ? look(now.get(name)) : null }));
}
