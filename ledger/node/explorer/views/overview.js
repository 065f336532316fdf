// The chain at a glance: blocks as they come, capacity, where farms stand.

import { every, get } from '../api.js';
import { capacityChart, sum } from '../capacity.js';
import { el, facts } from '../dom.js';
import { count, time } from '../format.js';
import { live } from '../live.js';
import { byFarm, farmMap } from '../map.js';
import { blockRow, card } from './parts.js';

const BLOCKS = 12;
/** Pages of a hundred records that are asked for at most. */
const PAGES = 20;
const MARKET_AGAIN_MS = 30_000;

function drawStatus(place, status) {
  place.replaceChildren(
    facts([
      ['Height', el('span', { id: 'height' }, count(status.height))],
      ['Time of the chain', time(status.time)],
      ['Validators', `${count(status.validators)}, power ${count(status.power)}`],
      ['Transactions waiting here', count(status.waiting)],
      ['This member', `${status.votes ? 'validates' : 'follows'}, version ${status.program}`],
    ], 'facts wide-facts'),
  );
}

async function drawMarket(places, signal) {
  const [farms, nodes, assignments] = await Promise.all(['farm', 'node', 'assignments'].map((kind) => every(kind, PAGES, signal)));
  const part = [farms, nodes, assignments].every(({ complete }) => complete) ? [] : [el('p', { class: 'quiet' }, 'Only a part of all is counted, for there is much.')];
  places.capacity.replaceChildren(capacityChart(sum(nodes.records, assignments.records)), ...part);
  places.map.replaceChildren(farmMap(byFarm(farms.records, nodes.records)), ...part.map((note) => note.cloneNode(true)));
}

/** A list of blocks that grows at the top until it is paused. */
function blockList() {
  const list = el('ol', { class: 'blocks', id: 'blocks', reversed: true });
  let paused = false;
  const pause = el('button', { type: 'button', id: 'pause', click: () => {
    paused = !paused;
    pause.textContent = paused ? 'Go on' : 'Pause';
  } }, 'Pause');
  const add = (block) => {
    if (paused || Number(list.firstElementChild?.dataset.height ?? 0) >= block.height) return;
    const row = blockRow(block);
    row.classList.add('fresh');
    list.prepend(row);
    while (list.children.length > BLOCKS) list.lastElementChild.remove();
  };
  return { list, pause, add };
}

/** Shows the overview. */
export async function overview(view) {
  const { signal } = view;
  const blocks = blockList();
  const places = { status: el('div'), capacity: el('div'), map: el('div') };
  live.watch();
  const status = await get('/v1/status', signal);
  view.put(
    'Overview',
    el('h1', {}, status.name || 'The chain'),
    el('section', { class: 'card', 'aria-label': 'Status' }, places.status),
    el('div', { class: 'columns' },
      card('Blocks', { id: 'live-blocks' }, blocks.pause, blocks.list),
      el('div', {}, card('Capacity', { id: 'capacity' }, places.capacity), card('Farms and nodes', { id: 'map' }, places.map))),
  );
  drawStatus(places.status, status);
  const load = async () => {
    const { blocks: newest } = await get(`/v1/blocks?limit=${BLOCKS}`, signal);
    newest.reverse().forEach(blocks.add);
  };
  const quietly = (work) => work().catch(() => {});
  let asked = performance.now();
  live.addEventListener('block', ({ detail }) => {
    blocks.add(detail);
    document.getElementById('height').textContent = count(detail.height);
    const now = performance.now();
    if (detail.records > 0 && now - asked > MARKET_AGAIN_MS) {
      asked = now;
      quietly(() => drawMarket(places, signal));
    }
  }, { signal });
  live.addEventListener('again', () => quietly(load), { signal });
  await Promise.all([load(), drawMarket(places, signal)]);
}
