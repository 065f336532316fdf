// News of blocks and of changes, as they come. A page that is not looked at lets go of its stream: a browser has few of them for
// one place.

import { parse, path } from './api.js';

const AGAIN_MS = 5_000;

/** Tells `block` and `record` with what they say as `detail`, `again` when something may have been missed, `state` when it connects. */
class Live extends EventTarget {
  #source = null;
  #query = {};
  #retry = 0;
  #missed = false;
  connected = false;

  constructor() {
    super();
    document.addEventListener('visibilitychange', () => (document.hidden ? this.#close() : this.#open()));
  }

  /** Listens to blocks, and to changes that are wanted. */
  watch(query = {}) {
    if (this.#source && JSON.stringify(query) === JSON.stringify(this.#query)) return;
    this.#query = query;
    this.#close();
    this.#missed = false;
    this.#open();
  }

  #open() {
    if (document.hidden || this.#source) return;
    const source = new EventSource(path(['events'], this.#query));
    this.#source = source;
    source.addEventListener('open', () => {
      this.#state(true);
      if (this.#missed) this.dispatchEvent(new Event('again'));
      this.#missed = false;
    });
    for (const name of ['block', 'record']) {
      source.addEventListener(name, ({ data }) => this.dispatchEvent(new CustomEvent(name, { detail: parse(data) })));
    }
    source.addEventListener('gap', () => this.dispatchEvent(new Event('again')));
    source.addEventListener('error', () => {
      this.#state(false);
      // The browser comes back by itself, and with the last id it saw, unless it was refused.
      if (source.readyState !== EventSource.CLOSED) return;
      this.#close();
      this.#retry = setTimeout(() => this.#open(), AGAIN_MS);
    });
  }

  #close() {
    clearTimeout(this.#retry);
    if (!this.#source) return;
    this.#source.close();
    this.#source = null;
    this.#missed = true;
    this.#state(false);
  }

  #state(connected) {
    this.connected = connected;
    this.dispatchEvent(new Event('state'));
  }
}

/** The one stream of this page. */
export const live = new Live();
