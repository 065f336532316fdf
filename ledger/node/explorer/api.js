// Asking this member of the chain.

/** An answer that says what went wrong. */
export class ApiError extends Error {
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { status, code });
  }
}

/** JSON in which integers that no number says exactly are BigInt. */
export function parse(text) {
  return JSON.parse(text, (_, value, context) => {
    const inexact = typeof value === 'number' && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source ?? '');
    return inexact ? BigInt(context.source) : value;
  });
}

async function ask(path, signal) {
  const response = await fetch(path, { signal, credentials: 'omit' });
  if (response.ok) return response;
  let said = {};
  try {
    said = await response.json();
  } catch {
    // Not one of the interface's own answers.
  }
  throw new ApiError(response.status, said.code ?? 'unknown', said.message ?? `the answer has status ${response.status}`);
}

/** An answer in JSON. */
export async function get(path, signal) {
  return parse(await (await ask(path, signal)).text());
}

/** An answer in bytes. */
export async function getBytes(path, signal) {
  return new Uint8Array(await (await ask(path, signal)).arrayBuffer());
}

/** A path whose parts and query are encoded. */
export function path(parts, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== '');
  const asked = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `/v1/${parts.map(encodeURIComponent).join('/')}${asked && `?${asked}`}`;
}

/** Records of a kind, page by page, up to so many pages. `complete` says whether that was all. */
export async function every(kind, pages, signal) {
  const records = [];
  let after;
  for (let page = 0; page < pages; page += 1) {
    const answer = await get(path(['records', kind], { after }), signal);
    records.push(...answer.records);
    after = answer.next;
    if (!after) return { records, complete: true };
  }
  return { records, complete: false };
}
