// The conversation between a test and a client program: one JSON command a line in, one JSON answer a line out.
// A group member answers with events until its input ends; then it leaves its group and ends.
'use strict';
const readline = require('readline');

class Unsupported extends Error {}

const enc = (b) => (b === null || b === undefined ? null : Buffer.from(b).toString('base64'));
const dec = (s) => (s === null || s === undefined ? null : Buffer.from(s, 'base64'));
const emit = (o) => process.stdout.write(JSON.stringify(o) + '\n');

// Both libraries take headers as an object whose values may be arrays; null values cannot be sent by them.
const headersIn = (r) => {
  const out = {};
  for (const [k, v] of r.h || []) out[k] = dec(v);
  return out;
};
const headersOut = (h) => {
  const out = [];
  for (const [k, v] of Object.entries(h || {})) for (const x of Array.isArray(v) ? v : [v]) out.push([k, enc(x)]);
  return out;
};

const withTimeout = (p, ms, what) => {
  let t;
  return Promise.race([p, new Promise((_, no) => { t = setTimeout(() => no(new Error(`${what}: nothing within ${ms} ms`)), ms); })]).finally(() => clearTimeout(t));
};

async function serve(handlers) {
  const lines = readline.createInterface({ input: process.stdin });
  let ended;
  const closed = new Promise((yes) => { ended = yes; });
  lines.on('close', ended);
  let chain = Promise.resolve();
  lines.on('line', (line) => {
    chain = chain.then(async () => {
      const cmd = JSON.parse(line);
      try {
        if (!handlers[cmd.cmd]) throw new Unsupported(cmd.cmd + ' is not offered by this client');
        const answer = await handlers[cmd.cmd](cmd, closed);
        emit(cmd.cmd === 'group' ? { ev: 'closed' } : answer || {});
      } catch (e) {
        emit(e instanceof Unsupported ? { unsupported: e.message } : { error: String((e && e.stack) || e) });
      }
    });
  });
  await closed;
  await chain;
  process.exit(0);
}

module.exports = { serve, Unsupported, enc, dec, emit, headersIn, headersOut, withTimeout };
