// `clawker plugin build` runs this. Without these features the engine imports nothing of WASI, and there is no clock, no
// randomness and no network to be had in the component.

import { writeFile } from 'node:fs/promises';

import { componentize } from '@bytecodealliance/componentize-js';

const { component } = await componentize({
  sourcePath: 'sdk/entry.js',
  witPath: 'wit',
  worldName: 'policy',
  disableFeatures: ['random', 'clocks', 'http', 'stdio', 'fetch-event'],
});
await writeFile('build/app.wasm', component);
