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

use clawker_plugin_sdk::policy::{Facts, Verdict};
use clawker_plugin_sdk::{Settings, policy};

#[derive(Debug, Settings)]
struct Settings {
    /// So many denials of egress or out-of-memory kills within 60 seconds are too many.
    #[settings(default = 2, min = 1)]
    threshold: u64,
}

#[policy(events(EgressDenied, ContainerOom), windows(EgressDenied = 60, ContainerOom = 60))]
fn egress_guard(facts: &Facts, settings: &Settings, state: &mut rules::State) -> Vec<Verdict> {
    let in_window = facts.count("EgressDenied").saturating_add(facts.count("ContainerOom"));
    rules::judge(state, in_window, settings.threshold, &facts.containment)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use clawker_plugin_sdk::events::{ContainerOom, EgressDenied};
    use clawker_plugin_sdk::test::MockHost;
    use serde_json::json;

    use super::*;

    #[test]
    fn both_kinds_count_together() {
        MockHost::<egress_guard>::new()
            .happens(&EgressDenied::default())
            .expect_nothing()
            .happens(&ContainerOom::default())
            .expect(["lock-network"])
            .happens(&ContainerOom::default())
            .expect_nothing()
            .happens(&ContainerOom::default())
            .expect(["freeze"]);
    }

    #[test]
    fn what_is_a_minute_ago_does_not_count() {
        MockHost::<egress_guard>::new()
            .happens(&EgressDenied::default())
            .repeat(3, Duration::from_secs(60))
            .expect_nothing();
    }

    #[test]
    fn a_repeat_after_a_release_freezes() {
        MockHost::<egress_guard>::new()
            .happens(&EgressDenied::default())
            .repeat(2, Duration::from_secs(1))
            .expect(["lock-network"])
            .released()
            .happens(&EgressDenied::default())
            .repeat(2, Duration::from_secs(1))
            .expect(["lock-network", "freeze"]);
    }

    #[test]
    fn settings_that_it_does_not_know_are_refused() {
        assert!(MockHost::<egress_guard>::refuses(json!({"threshold": 0})).contains("must be at least 1"));
        assert!(MockHost::<egress_guard>::refuses(json!({"treshold": 1})).contains("unknown field"));
        assert_eq!(Settings::default().threshold, 2);
    }
}
