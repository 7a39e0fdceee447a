// The plugin SDK for JavaScript.
//
// A policy names the kinds of events that it is asked about, and has a method `evaluate`, which says what should be done
// about the agent:
//
//     import { alert, policy } from './sdk/clawker.js';
//
//     export default policy({
//       events: ['ContainerOom'],
//       evaluate: () => [alert('killed for memory')],
//     });
//
// It is a function: the same event, facts, settings and state give the same verdicts. There is no clock, no randomness,
// no network and no file; what happened when stands in the event. An exception is no answer: the host journals it and
// does the operator's fallback. `Session` plays events to a policy in a test, without WebAssembly.

const MAX_STATE = 16 << 10;

/** Note it in the journal, nothing else. */
export const observe = (reason) => ({ action: 'observe', allow: [], reason });
/** Tell the operator. */
export const alert = (reason) => ({ action: 'alert', allow: [], reason });
/** Let the agent reach these destinations, `address:port`, and no others; 64 at most. */
export const restrictEgress = (allow, reason) => ({ action: 'restrict-egress', allow: [...allow], reason });
/** Let nothing leave or enter the agent's network. */
export const lockNetwork = (reason) => ({ action: 'lock-network', allow: [], reason });
/** Stop the agent's processes from running, and keep them. */
export const freeze = (reason) => ({ action: 'freeze', allow: [], reason });
/** End the agent's processes. */
export const stop = (reason) => ({ action: 'stop', allow: [], reason });
/** End the agent's processes at once. */
export const kill = (reason) => ({ action: 'kill', allow: [], reason });
/** Take the agent's identity away. */
export const revoke = (reason) => ({ action: 'revoke', allow: [], reason });

/**
 * A policy.
 *
 * - `events`: kinds of events that it is asked about.
 * - `windows`: what the host counts for it, `{ kind, seconds }`; 16 at most.
 * - `settings`: what an operator may configure, by name, each in JSON Schema's words with a `default`.
 * - `evaluate({ event, facts, settings, state })`: the verdicts; an empty list is "nothing". `event` has `kind`, `seq`,
 *   `at` (milliseconds since the Unix epoch), `agent` and `body`; `facts` has `containment` and `count(kind, seconds)`.
 *   What is put into `state` comes back with the agent's next event; as JSON it has 16 KiB at most.
 */
export function policy({ events, windows = [], settings = {}, evaluate }) {
  return { events, windows, settings, evaluate };
}

const configured = (policy, given) =>
  Object.fromEntries(Object.entries(policy.settings).map(([name, of]) => [name, given[name] ?? of.default]));

function facts(counts, containment) {
  return {
    counts,
    containment,
    /** Events of that kind in the first such window, the one being evaluated included; 0 without a window. */
    count(kind, seconds) {
      const found = counts.find((one) => one.kind === kind && (seconds === undefined || one.seconds === seconds));
      return found?.count ?? 0;
    },
  };
}

/** Plays events to a policy in a test, and keeps what a host would: windows, state, containment. */
export class Session {
  constructor(policy, { settings = {}, agent = 'clawker.demo.a' } = {}) {
    const unknown = Object.keys(settings).filter((name) => !(name in policy.settings));
    if (unknown.length > 0) throw new Error(`there is no setting ${unknown.join(', ')}`);
    this.policy = policy;
    this.agent = agent;
    this.settings = configured(policy, settings);
    this.at = 0;
    this.seen = [];
    this.state = '{}';
    this.containment = { network: { state: 'open' }, processes: 'running', identity: 'valid' };
    this.verdicts = [];
  }

  /** Plays one event, a second after the one before unless `at` says when, and gives the actions' names. */
  event(kind, body = {}, at = this.at + 1000) {
    this.at = at;
    this.seen.push({ kind, at });
    if (!this.policy.events.includes(kind)) return [];
    const within = (window) => (one) => one.kind === window.kind && one.at > at - window.seconds * 1000;
    const counts = this.policy.windows.map((window) => ({ ...window, count: this.seen.filter(within(window)).length }));
    const state = JSON.parse(this.state);
    this.verdicts = this.policy.evaluate({
      event: { kind, seq: this.seen.length, at, agent: this.agent, body: structuredClone(body) },
      facts: facts(counts, structuredClone(this.containment)),
      settings: structuredClone(this.settings),
      state,
    });
    this.state = JSON.stringify(state);
    const bytes = new TextEncoder().encode(this.state).length;
    if (bytes > MAX_STATE) throw new Error(`a state of ${bytes} bytes, the limit is 16 KiB`);
    for (const { action } of this.verdicts) this.#contain(action);
    return this.verdicts.map(({ action }) => action);
  }

  #contain(action) {
    const network = { 'restrict-egress': 'restricted', 'lock-network': 'locked' }[action];
    const processes = { freeze: 'frozen', stop: 'stopped', kill: 'killed' }[action];
    if (network) this.containment.network = { state: network };
    if (processes) this.containment.processes = processes;
    if (action === 'revoke') this.containment.identity = 'revoked';
  }
}

/** What a component of this policy exports; `host` has its imports, and what plugin.toml says of it. */
export function component(policy, host) {
  return {
    describe() {
      const schema = { type: 'object', properties: policy.settings, additionalProperties: false };
      return {
        name: host.name,
        version: host.version,
        kind: 'policy',
        settingsSchema: JSON.stringify(schema),
        events: policy.events,
        windows: policy.windows,
      };
    },

    evaluate(event, told, state) {
      try {
        const remembered = state === '' ? {} : JSON.parse(state);
        // Counts and times are 64 bits wide in the contract; what they hold is far within a number's 53.
        const counts = told.counts.map((one) => ({ ...one, count: Number(one.count) }));
        const verdicts = policy.evaluate({
          event: { ...event, seq: Number(event.seq), at: Number(event.at), body: JSON.parse(event.body) },
          facts: facts(counts, JSON.parse(told.containment)),
          settings: configured(policy, JSON.parse(host.settings())),
          state: remembered,
        });
        return { verdicts, state: JSON.stringify(remembered) };
      } catch (error) {
        // The last line at this level becomes the reason that people see.
        host.log('error', String(error));
        throw error;
      }
    },
  };
}
