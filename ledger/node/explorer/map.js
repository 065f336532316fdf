// Where farms and their nodes stand: a map of degrees alone, each as long as wide.

import { el, link, svg } from './dom.js';
import { plural } from './format.js';
import { country, place, search } from './kinds.js';

const FARMS_LISTED = 8;

/** Farms with their nodes by state, those with most nodes first. */
export function byFarm(farms, nodes) {
  const found = new Map(farms.map((farm) => [farm.id, { farm, nodes: 0, rentable: 0 }]));
  for (const { body: { node } } of nodes) {
    const entry = found.get(node.farm);
    if (!entry) continue;
    entry.nodes += 1;
    entry.rentable += ['joined', 'active'].includes(node.state.state) ? 1 : 0;
  }
  return [...found.values()].sort((a, b) => b.nodes - a.nodes);
}

/** Lines at every 30 degrees, the equator and the first meridian stronger. */
function graticule() {
  const lines = [];
  for (let x = -180; x <= 180; x += 30) lines.push(svg('path', { d: `M${x} -90V90`, class: x === 0 ? 'main' : null }));
  for (let y = -90; y <= 90; y += 30) lines.push(svg('path', { d: `M-180 ${y}H180`, class: y === 0 ? 'main' : null }));
  return svg('g', { class: 'graticule' }, lines);
}

function dot({ farm, nodes, rentable }) {
  const { name, location } = farm.body.farm;
  const radius = 2 + Math.min(6, Math.sqrt(nodes));
  const look = nodes === 0 ? 'empty' : rentable < nodes ? 'part' : 'full';
  const circle = svg('circle', { cx: location.longitude / 1e6, cy: -location.latitude / 1e6, r: radius, class: look });
  const title = svg('title', {}, `${name || 'A farm'}, ${country(location.country)}: ${plural(nodes, 'node')}`);
  // The list beside the map is the way there for keyboards.
  return svg('a', { href: place('farm', farm.id), tabindex: -1 }, circle, title);
}

function row({ farm, nodes, rentable }) {
  const { name, location } = farm.body.farm;
  return el(
    'li',
    {},
    link(place('farm', farm.id), name || farm.id.slice(0, 8)),
    el('span', { class: 'quiet' }, ` ${country(location.country)}, ${plural(nodes, 'node')}`, nodes > rentable && `, ${nodes - rentable} silent`),
  );
}

/** Draws farms where they stand, and lists those with most nodes. */
export function farmMap(farms) {
  const countries = new Set(farms.map(({ farm }) => country(farm.body.farm.location.country)));
  const total = farms.reduce((sum, { nodes }) => sum + nodes, 0);
  const text = `${plural(farms.length, 'farm')} with ${plural(total, 'node')} in ${plural(countries.size, 'country', 'countries')}`;
  const drawing = svg(
    'svg',
    { viewBox: '-182 -92 364 184', class: 'map', role: 'img', 'aria-label': `Map: ${text}` },
    svg('rect', { x: -180, y: -90, width: 360, height: 180, rx: 4, class: 'sea' }),
    graticule(),
    farms.map(dot),
  );
  return el(
    'div',
    {},
    el('p', { class: 'quiet' }, text),
    drawing,
    el('ul', { class: 'plain-list', id: 'farms' }, farms.slice(0, FARMS_LISTED).map(row)),
    farms.length > FARMS_LISTED && el('p', {}, link(search({ kind: 'farm' }), 'All farms')),
  );
}
