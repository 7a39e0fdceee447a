// The rules alone, without WebAssembly: `npm test`.

import assert from 'node:assert/strict';
import test from 'node:test';

import failedExecs from './app.js';
import { Session } from './sdk/clawker.js';

const FAILED = { exec: 'x', code: 1 };

test('the fifth failure within a minute freezes', () => {
  const session = new Session(failedExecs);
  const said = [1, 2, 3, 4, 5].map(() => session.event('ExecExited', FAILED));
  assert.deepEqual(said, [[], [], [], [], ['freeze']]);
});

test('execs that went well do not count', () => {
  const session = new Session(failedExecs, { settings: { failures: 2 } });
  assert.deepEqual(session.event('ExecExited', FAILED), []);
  assert.deepEqual(session.event('ExecExited', { exec: 'y', code: 0 }), []);
  assert.deepEqual(session.event('ExecExited', FAILED), ['freeze']);
});

test('failures of more than a minute ago do not count', () => {
  const session = new Session(failedExecs, { settings: { failures: 2 } });
  assert.deepEqual(session.event('ExecExited', FAILED, 1_000), []);
  assert.deepEqual(session.event('ExecExited', FAILED, 62_000), []);
});
