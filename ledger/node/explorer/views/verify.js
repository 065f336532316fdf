// The button that checks what is shown, and what it found.

import { el } from '../dom.js';
import { count } from '../format.js';
import { get } from '../api.js';
import { onPin, pinForm, pinned } from '../trust.js';
import { Refused } from '../verify/light.js';
import { verify } from '../verify/session.js';

const step = (name, text, good) =>
  el('li', { class: good ? 'good' : 'bad' }, el('span', { class: 'sign', 'aria-hidden': 'true' }, good ? '✓' : '✗'), el('strong', {}, name), ` ${text}`);

/** Draws the panel for a record: `wanted()` says what is shown of it at that time, `done` is told whether it holds. */
export async function verifyPanel(wanted, done, signal) {
  const { chain: claimed } = await get('/v1/status', signal);
  const steps = el('ol', { class: 'steps', id: 'steps' });
  const verdict = el('p', { class: 'verdict', id: 'verdict', role: 'status' });
  const place = el('div', {});
  const say = (how, text) => {
    verdict.dataset.verdict = how;
    verdict.textContent = text;
    done(how === 'verified');
  };

  async function run({ currentTarget: button }) {
    steps.replaceChildren();
    say('working', 'Checking…');
    button.setAttribute('aria-disabled', 'true');
    try {
      const { height, latest } = await verify({ ...wanted(), chain: pinned(), signal }, (name, text) => steps.append(step(name, text, true)));
      const shown = wanted().versions[0].version;
      const newer = shown === latest.version ? '' : ` Its newest version is ${count(latest.version)}.`;
      say('verified', `Verified: this is what stood on the chain after block ${count(height)}.${newer}`);
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused) {
        steps.append(step(error.check, error.message, false));
        say('refused', `Refused: ${error.check}. Do not believe what is shown here.`);
      } else say('failed', `This could not be checked: ${error.message}`);
    } finally {
      button.removeAttribute('aria-disabled');
    }
  }

  const guarded = (event) => event.currentTarget.hasAttribute('aria-disabled') || run(event);
  function draw({ focus = false } = {}) {
    steps.replaceChildren();
    say('none', '');
    if (!pinned()) return place.replaceChildren(pinForm(claimed));
    const button = el('button', { type: 'button', class: 'main', id: 'verify', click: guarded }, 'Verify');
    place.replaceChildren(button);
    if (focus) button.focus();
    return undefined;
  }
  onPin(() => draw({ focus: place.contains(document.activeElement) }), { signal });
  draw();
  return el('div', { class: 'verify' },
    el('p', { class: 'quiet' }, 'Checks signatures and hashes in this browser, from the pinned genesis on.'), place, verdict, steps);
}
