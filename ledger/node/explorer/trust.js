// The hash of the genesis that this browser trusts. Whoever uses it says which; it is kept, and shown on every page.

import { get } from './api.js';
import { el } from './dom.js';
import { short } from './format.js';

const KEY = 'zos-explorer-genesis';

/** The pinned hash, or null. */
export function pinned() {
  try {
    return localStorage.getItem(KEY);
  } catch {
    return memory;
  }
}

let memory = null;
const changes = new EventTarget();

/** Pins a hash; null unpins. */
export function pin(hash) {
  memory = hash;
  try {
    if (hash) localStorage.setItem(KEY, hash);
    else localStorage.removeItem(KEY);
  } catch {
    // Where nothing may be stored it is kept as long as the page.
  }
  changes.dispatchEvent(new Event('change'));
}

/** Listens to another hash being pinned. */
export const onPin = (listener, options) => changes.addEventListener('change', listener, options);

/** Asks for the hash to trust; used where nothing is pinned yet. */
export function pinForm(claimed) {
  const input = el('input', {
    id: 'pin-text', name: 'hash', required: true, minlength: 64, maxlength: 64, pattern: '[0-9a-f]{64}', autocomplete: 'off',
    spellcheck: 'false', value: claimed, 'aria-describedby': 'pin-help', title: '64 lower-case hexadecimal digits',
  });
  const submit = (event) => {
    event.preventDefault();
    pin(input.value.trim());
  };
  return el(
    'form',
    { class: 'pin', id: 'pin-form', submit },
    el('label', { for: 'pin-text' }, 'Hash of the genesis'),
    el('div', { class: 'row' }, input, el('button', { type: 'submit', id: 'pin-button' }, 'Pin it')),
    el('p', { class: 'quiet', id: 'pin-help' }, 'Filled in is what this member says. Compare it with the hash that you had from somebody on the chain.'),
  );
}

/** Draws which chain is pinned. */
export async function drawTrust(place) {
  const hash = pinned();
  const { chain } = await get('/v1/status').catch((error) => {
    if (!hash) throw error;
    return { chain: hash };
  });
  if (!hash) {
    const details = el('details', {}, el('summary', {}, 'No chain is pinned, so nothing can be verified yet'), el('p', { class: 'mono' }, `This member says: ${chain}`));
    details.append(el('button', { type: 'button', id: 'pin-claimed', click: () => pin(chain) }, 'Pin this hash'));
    place.replaceChildren(details);
    return;
  }
  const other = hash !== chain && el('p', { class: 'bad', role: 'alert' }, `This member follows another chain: ${chain}`);
  const unpin = el('button', { type: 'button', class: 'plain', id: 'unpin', click: () => pin(null) }, 'Unpin');
  place.replaceChildren(
    ...[el('p', {}, 'Pinned chain ', el('abbr', { title: hash, class: 'mono', id: 'pinned' }, short(hash)), ' ', unpin), other].filter(Boolean),
  );
}
