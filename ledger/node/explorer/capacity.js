// Capacity, free and used, as bars.

import { el, svg } from './dom.js';
import { bytes, count } from './format.js';

const KINDS = [
  ['cru', 'Threads', (value) => count(Math.round(value))],
  ['mru', 'Memory', bytes],
  ['sru', 'Solid-state storage', bytes],
  ['hru', 'Rotating storage', bytes],
];

/** What nodes offer and what of it is reserved, in all. Those that cannot be rented do not count. */
export function sum(nodes, assignments) {
  const reserved = new Map(assignments.map(({ id, body }) => [id, body.assignments.reserved]));
  const total = Object.fromEntries(KINDS.map(([name]) => [name, { used: 0, all: 0 }]));
  for (const { id, body } of nodes) {
    if (!['joined', 'active'].includes(body.node.state.state)) continue;
    for (const [name] of KINDS) {
      const all = Number(body.node.capacity[name]);
      total[name].all += all;
      total[name].used += Math.min(all, Number(reserved.get(id)?.[name] ?? 0));
    }
  }
  return total;
}

function bar([name, title, format], { used, all }) {
  const part = all > 0 ? used / all : 0;
  const text = all > 0 ? `${format(all - used)} free of ${format(all)}` : 'none';
  const chart = svg(
    'svg',
    { viewBox: '0 0 100 8', preserveAspectRatio: 'none', class: 'bar', role: 'img', 'aria-label': `${title}: ${text}, ${Math.round(part * 100)} % used` },
    svg('rect', { width: 100, height: 8, class: 'bar-free' }),
    svg('rect', { width: 100 * part, height: 8, class: 'bar-used' }),
  );
  return el('li', { 'data-resource': name }, el('div', { class: 'bar-text' }, el('span', {}, title), el('span', { class: 'quiet' }, text)), chart);
}

/** Draws a bar for each kind of capacity. */
export function capacityChart(total) {
  return el(
    'div',
    {},
    el('p', { class: 'legend quiet', 'aria-hidden': 'true' }, el('span', { class: 'key used' }), 'used', el('span', { class: 'key' }), 'free'),
    el('ul', { class: 'bars' }, KINDS.map((kind) => bar(kind, total[kind[0]]))),
  );
}
