//! Contains an agent that failed an identity check, by the action that the operator chose for the reason.
//!
//! ```text
//! AgentUntrusted{reason} ──► settings[reason], else settings.default ──► one verdict
//! ```
//! It remembers nothing: the host keeps what was asked until an operator releases it, so an agent that is believed
//! again later stays contained until somebody has looked. A reason that this version doesn't know gets the default.

mod settings;

use clawker_plugin_sdk::events::AgentUntrusted;
use clawker_plugin_sdk::policy;
use clawker_plugin_sdk::policy::{Event, Fault, Verdict};

use settings::{Action, Settings};

#[policy(events(AgentUntrusted))]
fn quarantine_untrusted(event: &Event, settings: &Settings) -> Result<Option<Verdict>, Fault> {
    let Some(AgentUntrusted { reason, detail, .. }) = event.typed()? else {
        return Ok(None);
    };
    let why = if detail.is_empty() {
        reason.clone()
    } else {
        format!("{reason}: {detail}")
    };
    Ok(Some(match settings.action(&reason) {
        Action::Observe => Verdict::observe(why),
        Action::Alert => Verdict::alert(why),
        Action::RestrictEgress => Verdict::restrict_egress(settings.allow.iter().copied(), why),
        Action::LockNetwork => Verdict::lock_network(why),
        Action::Freeze => Verdict::freeze(why),
        Action::Stop => Verdict::stop(why),
        Action::Kill => Verdict::kill(why),
        Action::Revoke => Verdict::revoke(why),
    }))
}

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::events::UNTRUSTED_REASONS;
    use clawker_plugin_sdk::test::MockHost;
    use serde_json::{Value, json};

    use super::*;
    use settings::ACTIONS;

    fn judged(settings: Value, reason: &str, detail: &str) -> Verdict {
        let mut host = MockHost::<quarantine_untrusted>::new().settings(settings);
        host.event(
            "AgentUntrusted",
            json!({"reason": reason, "detail": detail, "of": "a later release"}),
        );
        let [verdict] = host.verdicts() else {
            panic!("{:?}", host.verdicts())
        };
        verdict.clone()
    }

    #[test]
    fn every_reason_locks_but_those_that_say_nothing_of_the_agent() {
        for reason in UNTRUSTED_REASONS {
            let expected = match *reason {
                "register_failed" | "registry_unavailable" => "alert",
                _ => "lock-network",
            };
            assert_eq!(judged(json!({}), reason, "").action, expected, "{reason}");
        }
    }

    #[test]
    fn each_reason_takes_each_action() {
        for reason in UNTRUSTED_REASONS {
            for action in ACTIONS {
                let settings = json!({*reason: action});
                assert_eq!(judged(settings.clone(), reason, "").action, *action, "{reason}");
                let other = if *reason == "chain_invalid" {
                    "eku_invalid"
                } else {
                    "chain_invalid"
                };
                assert_eq!(judged(settings, other, "").action, "lock-network");
            }
        }
    }

    #[test]
    fn a_reason_of_a_later_release_gets_the_default() {
        assert_eq!(judged(json!({}), "key_leaked", "").action, "lock-network");
        assert_eq!(judged(json!({"default": "freeze"}), "key_leaked", "").action, "freeze");
    }

    #[test]
    fn another_default_leaves_what_was_chosen_for_a_reason() {
        let settings = json!({"default": "kill", "cn_mismatch": "observe"});
        for (reason, action) in [
            ("chain_invalid", "kill"),
            ("cn_mismatch", "observe"),
            ("register_failed", "alert"),
        ] {
            assert_eq!(judged(settings.clone(), reason, "").action, action);
        }
    }

    #[test]
    fn a_restriction_allows_what_the_settings_list() {
        let settings = json!({"chain_invalid": "restrict-egress", "allow": ["192.0.2.1:443", "[2001:db8::1]:53"]});
        let verdict = judged(settings, "chain_invalid", "");
        assert_eq!(verdict.allow, ["192.0.2.1:443", "[2001:db8::1]:53"]);
        let nothing = judged(json!({"default": "restrict-egress"}), "chain_invalid", "");
        assert!(nothing.allow.is_empty());
    }

    #[test]
    fn the_verdict_says_reason_and_detail() {
        let verdict = judged(json!({}), "peer_mismatch", "process 7 connected");
        assert_eq!(verdict.reason, "peer_mismatch: process 7 connected");
        assert_eq!(judged(json!({}), "chain_invalid", "").reason, "chain_invalid");
    }

    #[test]
    fn an_event_without_a_reason_is_a_fault_and_the_fallback_acts() {
        let mut host = MockHost::<quarantine_untrusted>::new();
        assert!(
            host.faults("AgentUntrusted", json!({"detail": "x"}))
                .contains("missing field `reason`")
        );
    }

    #[test]
    fn another_kind_of_event_is_no_business_of_ours() {
        let event = Event {
            kind: "ContainerOom".into(),
            seq: 1,
            at: 0,
            agent: None,
            body: r#"{"reason":"chain_invalid"}"#.into(),
        };
        let verdict = quarantine_untrusted(&event, &Settings::default());
        assert_eq!(verdict.expect("decides"), None);
    }
}
