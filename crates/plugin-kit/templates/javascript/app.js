// Freezes an agent when too many of its execs fail within a minute.

import { freeze, policy } from './sdk/clawker.js';

const WITHIN = 60_000;

export default policy({
  events: ['ExecExited'],

  settings: {
    failures: {
      type: 'integer',
      default: 5,
      minimum: 1,
      description: 'Failed execs within a minute that freeze the agent',
    },
  },

  evaluate({ event, settings, state }) {
    if (event.body.code === 0) return [];
    // The host counts events, whatever is in them; those that failed are ours to count.
    const failed = (state.failed ?? []).filter((at) => at > event.at - WITHIN).concat(event.at);
    const enough = failed.length >= settings.failures;
    state.failed = enough ? [] : failed;
    if (!enough) return [];
    return [freeze(`${failed.length} execs failed within a minute, the last with code ${event.body.code}`)];
  },
});
