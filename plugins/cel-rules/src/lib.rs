//! Policies without code: rules in CEL, from the settings.
//!
//! ```text
//! event ──► rules on its kind ──when──► true `times` times `within` seconds? ──► verdict, reason
//!                                           └── state: when each rule came true, by agent
//! ```
//! A call has a fresh instance, so expressions are read at each call: those of rules on other kinds aren't. Whatever
//! can't be read or evaluated is a fault, and the host applies the operator's fallback; a rule is never passed over.

mod reason;
mod rule;
mod settings;
mod times;
mod values;
mod watched;

use clawker_plugin_sdk::policy::{Event, Facts, Fault, Policy, Verdict, Window};

use settings::Settings;
use times::Times;

struct CelRules;

impl Policy for CelRules {
    const NAME: &str = "cel-rules";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    const EVENTS: &[&str] = watched::EVENTS;
    const WINDOWS: &[Window] = watched::WINDOWS;
    type Settings = Settings;
    type State = Times;

    fn evaluate(event: &Event, facts: &Facts, settings: &Settings, times: &mut Times) -> Result<Vec<Verdict>, Fault> {
        settings.check()?;
        times.keep(&settings.rules);
        let on_kind = settings.rules.iter().filter(|rule| rule.on.contains(&event.kind));
        let mut verdicts = Vec::new();
        let mut context = None;
        for rule in on_kind {
            let wrong = |problem: String| format!("rule `{}`: {problem}", rule.name);
            rule::name_in_panics(rule);
            let read = rule::Read::new(rule).map_err(wrong)?;
            let context = match &context {
                Some(context) => context,
                None => context.insert(rule::context(event, facts)?),
            };
            if read.holds(context).map_err(wrong)? && times.note(rule, event.at) {
                let why = reason::of(rule, event).map_err(wrong)?;
                let verdict = watched::verdict(&rule.action, &rule.allow, why).map_err(wrong)?;
                watched::say(&mut verdicts, verdict)?;
            }
        }
        Ok(verdicts)
    }
}

clawker_plugin_sdk::export_policy!(CelRules);

#[cfg(test)]
mod page;
#[cfg(test)]
mod tests;
