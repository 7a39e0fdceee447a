// What becomes the component: the policy with the host's functions, which are there in a component alone.

import { write } from 'clawker:plugin/log@0.1.0';
import { get } from 'clawker:plugin/settings@0.1.0';

import policy from '../app.js';
import { NAME, VERSION } from '../build/about.js';
import { component } from './clawker.js';

export const { describe, evaluate } = component(policy, { name: NAME, version: VERSION, settings: get, log: write });
