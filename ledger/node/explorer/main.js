// Which view is shown, and what stands around it.

import { get } from './api.js';
import { el } from './dom.js';
import { count, short } from './format.js';
import { live } from './live.js';
import { drawTrust, onPin } from './trust.js';
import { block } from './views/block.js';
import { overview } from './views/overview.js';
import { record } from './views/record.js';
import { results } from './views/search.js';

const main = document.getElementById('main');
let left = new AbortController();

const ROUTES = [
  [/^\/$/, () => overview],
  [/^\/search$/, () => results],
  [/^\/block\/([^/]+)$/, (height) => (view) => block(view, height)],
  [/^\/record\/([^/]+)\/([^/]+)$/, (kind, id) => (view) => record(view, kind, id)],
];

function find(path) {
  for (const [pattern, make] of ROUTES) {
    const match = pattern.exec(path);
    if (match) return make(...match.slice(1).map(decodeURIComponent));
  }
  return null;
}

function say(title, error) {
  const text = error ? error.message : 'There is no such page.';
  return el('section', { class: 'card' }, el('h1', {}, title), el('p', { class: 'bad', role: 'alert' }, text));
}

/** Draws what the address names. A view puts what it has into the page as soon as there is something. */
async function show({ first = false } = {}) {
  left.abort();
  left = new AbortController();
  const { signal } = left;
  const [path, query = ''] = location.hash.replace(/^#/, '').split('?', 2);
  const view = {
    query: new URLSearchParams(query),
    signal,
    /** Shows a view under a title. */
    put(title, ...parts) {
      if (signal.aborted) return;
      document.title = `${title} · Explorer`;
      main.replaceChildren(...parts.filter(Boolean));
      if (!first) {
        const heading = main.querySelector('h1');
        heading?.setAttribute('tabindex', '-1');
        (heading ?? main).focus({ preventScroll: true });
        window.scrollTo(0, 0);
      }
    },
  };
  for (const anchor of document.querySelectorAll('nav a')) {
    const here = anchor.getAttribute('href').slice(1).split('?')[0] === (path || '/');
    if (here) anchor.setAttribute('aria-current', 'page');
    else anchor.removeAttribute('aria-current');
  }
  try {
    const draw = find(path || '/');
    if (draw) await draw(view);
    else view.put('Nothing', say('Nothing here'));
  } catch (error) {
    if (!signal.aborted) view.put('Error', say('This cannot be shown', error));
  }
}

function quickSearch(event) {
  event.preventDefault();
  const q = new FormData(event.target).get('q').trim();
  if (q) location.hash = `#/search?${new URLSearchParams({ q })}`;
}

function drawLive(height) {
  const text = live.connected ? (height ? `Live, block ${count(height)}` : 'Live') : 'Not connected';
  document.getElementById('live').classList.toggle('on', live.connected);
  document.getElementById('live-text').textContent = text;
}

async function start() {
  const trust = () => drawTrust(document.getElementById('trust')).catch(() => {});
  onPin(trust);
  trust();
  document.getElementById('quick').addEventListener('submit', quickSearch);
  document.getElementById('skip').addEventListener('click', (event) => {
    event.preventDefault();
    main.focus();
  });
  live.addEventListener('state', () => drawLive());
  live.addEventListener('block', ({ detail }) => drawLive(detail.height));
  window.addEventListener('hashchange', () => show());
  get('/v1/status').then(({ name, chain }) => {
    document.getElementById('chain-name').textContent = name || short(chain);
  }, () => {});
  await show({ first: true });
}

start();
