//! Contains an agent that failed an identity check, by the action that the operator chose for the reason.
//!
//! ```text
//! AgentUntrusted{reason} ──► settings[reason], else settings.default ──► one verdict
//! ```
//! It remembers nothing: the host keeps what was asked until an operator releases it, so an agent that is believed
//! again later stays contained until somebody has looked. A reason that this version doesn't know gets the default.

mod settings;

use clawker_plugin_sdk::policy::{Event, Facts, Fault, Policy, Verdict};
use serde::Deserialize;

use settings::{Action, Settings};

struct QuarantineUntrusted;

/// What this policy reads of an `AgentUntrusted`.
#[derive(Debug, Deserialize)]
struct AgentUntrusted {
    reason: String,
    #[serde(default)]
    detail: String,
}

impl Policy for QuarantineUntrusted {
    const NAME: &str = "quarantine-untrusted";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    const EVENTS: &[&str] = &["AgentUntrusted"];
    type Settings = Settings;
    type State = ();

    fn evaluate(event: &Event, _: &Facts, settings: &Settings, (): &mut ()) -> Result<Vec<Verdict>, Fault> {
        if event.kind != "AgentUntrusted" {
            return Ok(Vec::new());
        }
        let AgentUntrusted { reason, detail } = event.read()?;
        let why = if detail.is_empty() {
            reason.clone()
        } else {
            format!("{reason}: {detail}")
        };
        let verdict = match settings.action(&reason) {
            Action::Observe => Verdict::observe(why),
            Action::Alert => Verdict::alert(why),
            Action::RestrictEgress => Verdict::restrict_egress(settings.allow.iter().copied(), why),
            Action::LockNetwork => Verdict::lock_network(why),
            Action::Freeze => Verdict::freeze(why),
            Action::Stop => Verdict::stop(why),
            Action::Kill => Verdict::kill(why),
            Action::Revoke => Verdict::revoke(why),
        };
        Ok(vec![verdict])
    }
}

clawker_plugin_sdk::export_policy!(QuarantineUntrusted);

#[cfg(test)]
mod tests {
    use super::*;

    fn untrusted(reason: &str, detail: &str) -> Event {
        Event {
            kind: "AgentUntrusted".into(),
            seq: 1,
            at: 0,
            agent: Some("clawker.a".into()),
            body: serde_json::json!({"reason": reason, "detail": detail, "of": "a later release"}).to_string(),
        }
    }

    fn judged(settings: &str, event: &Event) -> Verdict {
        let settings: Settings = serde_json::from_str(settings).expect("settings");
        let mut verdicts =
            QuarantineUntrusted::evaluate(event, &Facts::default(), &settings, &mut ()).expect("decides");
        assert_eq!(verdicts.len(), 1, "{verdicts:?}");
        verdicts.remove(0)
    }

    #[test]
    fn every_reason_locks_but_those_that_say_nothing_of_the_agent() {
        for reason in settings::REASONS {
            let expected = match *reason {
                "register_failed" | "registry_unavailable" => "alert",
                _ => "lock-network",
            };
            assert_eq!(judged("{}", &untrusted(reason, "")).action, expected, "{reason}");
        }
    }

    #[test]
    fn each_reason_takes_each_action() {
        for reason in settings::REASONS {
            for action in settings::ACTIONS {
                let settings = format!(r#"{{"{reason}":"{action}"}}"#);
                assert_eq!(judged(&settings, &untrusted(reason, "")).action, *action, "{reason}");
                let other = if *reason == "chain_invalid" {
                    "eku_invalid"
                } else {
                    "chain_invalid"
                };
                assert_eq!(judged(&settings, &untrusted(other, "")).action, "lock-network");
            }
        }
    }

    #[test]
    fn a_reason_of_a_later_release_gets_the_default() {
        assert_eq!(judged("{}", &untrusted("key_leaked", "")).action, "lock-network");
        let frozen = judged(r#"{"default":"freeze"}"#, &untrusted("key_leaked", ""));
        assert_eq!(frozen.action, "freeze");
    }

    #[test]
    fn another_default_leaves_what_was_chosen_for_a_reason() {
        let settings = r#"{"default":"kill","cn_mismatch":"observe"}"#;
        assert_eq!(judged(settings, &untrusted("chain_invalid", "")).action, "kill");
        assert_eq!(judged(settings, &untrusted("cn_mismatch", "")).action, "observe");
        assert_eq!(judged(settings, &untrusted("register_failed", "")).action, "alert");
    }

    #[test]
    fn a_restriction_allows_what_the_settings_list() {
        let settings = r#"{"chain_invalid":"restrict-egress","allow":["192.0.2.1:443","[2001:db8::1]:53"]}"#;
        let verdict = judged(settings, &untrusted("chain_invalid", ""));
        assert_eq!(verdict.allow, ["192.0.2.1:443", "[2001:db8::1]:53"]);
        assert!(
            judged(r#"{"default":"restrict-egress"}"#, &untrusted("chain_invalid", ""))
                .allow
                .is_empty()
        );
    }

    #[test]
    fn the_verdict_says_reason_and_detail() {
        let verdict = judged("{}", &untrusted("peer_mismatch", "process 7 connected"));
        assert_eq!(verdict.reason, "peer_mismatch: process 7 connected");
        assert_eq!(judged("{}", &untrusted("chain_invalid", "")).reason, "chain_invalid");
    }

    #[test]
    fn an_event_without_a_reason_is_a_fault_and_the_fallback_acts() {
        let event = Event {
            body: r#"{"detail":"x"}"#.into(),
            ..untrusted("", "")
        };
        let settings = Settings::default();
        assert!(QuarantineUntrusted::evaluate(&event, &Facts::default(), &settings, &mut ()).is_err());
    }

    #[test]
    fn another_kind_of_event_is_no_business_of_ours() {
        let event = Event {
            kind: "ContainerOom".into(),
            ..untrusted("chain_invalid", "")
        };
        let verdicts = QuarantineUntrusted::evaluate(&event, &Facts::default(), &Settings::default(), &mut ());
        assert_eq!(verdicts.expect("decides"), []);
    }
}
