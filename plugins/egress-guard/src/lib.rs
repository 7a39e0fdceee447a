//! Locks the network of an agent that was denied egress or killed for memory too often, and freezes it on a repeat.
//!
//! ```text
//! Watching ──threshold within 60 s──► Locked ──threshold again──► Frozen
//!                                       │                           │ ▲
//!             released (facts say so)   ▼                           ▼ │ threshold within 60 s
//!                                      Watching again ────────────────┘
//! ```
//! A locked agent's attempts aren't events, so after a lock only kills for memory go on counting; an agent that was
//! released and does it again is frozen at once. A denied TCP connection that is waited for counts once a second or
//! so, because the kernel sends its SYN again.

mod rules;

use clawker_plugin_sdk::policy::{Event, Facts, Fault, Policy, Verdict, Window};

struct EgressGuard;

#[derive(Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    threshold: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { threshold: 2 }
    }
}

impl Policy for EgressGuard {
    const NAME: &str = "egress-guard";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    const EVENTS: &[&str] = &["EgressDenied", "ContainerOom"];
    const WINDOWS: &[Window] = &[
        Window {
            kind: "EgressDenied",
            seconds: 60,
        },
        Window {
            kind: "ContainerOom",
            seconds: 60,
        },
    ];
    type Settings = Settings;
    type State = rules::State;

    fn evaluate(
        _: &Event,
        facts: &Facts,
        settings: &Settings,
        state: &mut rules::State,
    ) -> Result<Vec<Verdict>, Fault> {
        if settings.threshold == 0 {
            return Err("settings: `threshold` must be 1 or more".into());
        }
        let in_window = facts.count("EgressDenied").saturating_add(facts.count("ContainerOom"));
        Ok(rules::judge(state, in_window, settings.threshold, &facts.containment))
    }
}

clawker_plugin_sdk::export_policy!(EgressGuard);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::policy::WindowCount;

    use super::*;

    fn facts(denied: u64, oom: u64) -> Facts {
        let count = |kind: &str, count| WindowCount {
            kind: kind.into(),
            seconds: 60,
            count,
        };
        Facts {
            counts: vec![count("EgressDenied", denied), count("ContainerOom", oom)],
            ..Facts::default()
        }
    }

    fn event(kind: &str) -> Event {
        Event {
            kind: kind.into(),
            seq: 1,
            at: 0,
            agent: Some("clawker.a".into()),
            body: "{}".into(),
        }
    }

    #[test]
    fn both_kinds_count_together() {
        let mut state = rules::State::default();
        let settings = Settings::default();
        let mut ask =
            |kind, facts| EgressGuard::evaluate(&event(kind), &facts, &settings, &mut state).expect("decides");
        assert_eq!(ask("EgressDenied", facts(1, 0)), []);
        assert_eq!(ask("ContainerOom", facts(1, 1))[0].action, "lock-network");
    }

    #[test]
    fn a_threshold_of_zero_is_a_fault() {
        let settings = Settings { threshold: 0 };
        let mut state = rules::State::default();
        assert!(EgressGuard::evaluate(&event("ContainerOom"), &facts(0, 1), &settings, &mut state).is_err());
    }

    #[test]
    fn the_schema_names_what_the_settings_have() {
        let schema: serde_json::Value = serde_json::from_str(EgressGuard::SETTINGS_SCHEMA).expect("JSON");
        assert_eq!(
            schema["properties"]["threshold"]["default"],
            Settings::default().threshold
        );
        assert!(serde_json::from_str::<Settings>(r#"{"treshold":1}"#).is_err());
    }
}
