// Making elements. What the chain says only ever becomes text.

const SVG = 'http://www.w3.org/2000/svg';

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === 'function') element.addEventListener(name, value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  element.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An element; attributes that are functions listen to events. Children that are no nodes become text. */
export const el = (name, attributes = {}, ...children) => fill(document.createElement(name), attributes, children);

/** An element of SVG. */
export const svg = (name, attributes = {}, ...children) => fill(document.createElementNS(SVG, name), attributes, children);

/** A link to a part of this page. */
export const link = (to, ...children) => el('a', { href: to }, ...children);

/** A list of names and values. */
export const facts = (entries, name = 'facts') =>
  el('dl', { class: name }, entries.map(([term, ...values]) => el('div', {}, el('dt', {}, term), el('dd', {}, ...values))));
