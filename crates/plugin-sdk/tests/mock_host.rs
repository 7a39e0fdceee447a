//! The mock host is as strict as the host.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clawker_plugin_sdk::policy;
use clawker_plugin_sdk::policy::{Containment, Event, Facts, Fault, Network, Processes, Verdict};
use clawker_plugin_sdk::test::MockHost;
use serde_json::{Value, json};

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Seen {
    count: u64,
    #[serde(default)]
    ballast: String,
}

#[policy(name = "counts", events(ContainerOom), windows(ContainerOom = 10, ExecExited = 5))]
fn counts(event: &Event, facts: &Facts, state: &mut Seen) -> Result<Vec<Verdict>, Fault> {
    state.count += 1;
    if let Some(bytes) = event.read::<Value>()?["ballast"].as_u64() {
        state.ballast = "x".repeat(bytes as usize);
    }
    if let Some(verdicts) = event.read::<Value>()?["verdicts"].as_u64() {
        return Ok((0..verdicts).map(|_| Verdict::observe("y".repeat(2000))).collect());
    }
    let (kills, execs) = (facts.count("ContainerOom"), facts.count("ExecExited"));
    Ok(vec![Verdict::observe(format!("{kills} {execs} {}", state.count))])
}

fn reasons(host: &MockHost<counts>) -> Vec<&str> {
    host.verdicts().iter().map(|verdict| verdict.reason.as_str()).collect()
}

#[test]
fn windows_and_state_are_the_agents_own() {
    let mut host = MockHost::<counts>::new();
    host.event("ContainerOom", json!({})).event("ExecExited", json!({}));
    host.agent("clawker.b").event("ContainerOom", json!({}));
    host.agent("clawker.demo.a").event("ContainerOom", json!({}));
    host.after(Duration::from_millis(6_999))
        .event("ContainerOom", json!({}));
    // Ten seconds after the one at 4 s, to the millisecond.
    host.after(Duration::from_millis(1_001))
        .event("ContainerOom", json!({}));
    assert_eq!(reasons(&host), ["1 0 1", "1 0 1", "2 1 2", "2 0 3", "2 0 4"]);
    assert_eq!(host.state(), r#"{"count":4,"ballast":""}"#);
}

#[test]
fn an_agent_that_is_gone_is_forgotten() {
    let mut host = MockHost::<counts>::new();
    host.event("ContainerOom", json!({})).event("AgentRemoved", json!({}));
    assert_eq!(host.state(), "");
    host.event("ContainerOom", json!({}));
    assert_eq!(reasons(&host), ["1 0 1", "1 0 1"]);
}

#[test]
fn the_hosts_caps_hold() {
    let mut host = MockHost::<counts>::new();
    host.event("ContainerOom", json!({"verdicts": 16}));
    assert!(host.verdicts().iter().all(|verdict| verdict.reason.len() == 1024));
    assert!(
        host.faults("ContainerOom", json!({"verdicts": 17}))
            .contains("17 verdicts")
    );
    assert!(
        host.faults("ContainerOom", json!({"ballast": 16 << 10}))
            .contains("the limit is 16384")
    );
    assert!(MockHost::<counts>::refuses(json!([])).contains("not a JSON object"));
    assert!(MockHost::<counts>::refuses(json!({"x": "y".repeat(65_536)})).contains("the limit is 65536"));
}

#[test]
fn containment_follows_the_verdicts() {
    #[policy(name = "acts", events(ContainerOom))]
    fn acts(event: &Event, facts: &Facts) -> Result<Vec<Verdict>, Fault> {
        let said = event.read::<Value>()?;
        let Containment { network, processes } = &facts.containment;
        if said["expect"].is_string() {
            assert_eq!(said["expect"], format!("{network:?} {processes:?}"));
        }
        Ok(match said["ask"].as_str() {
            Some("restrict") => vec![Verdict::restrict_egress([], "")],
            Some("lock") => vec![Verdict::lock_network("")],
            Some("freeze") => vec![Verdict::freeze("")],
            Some("kill") => vec![Verdict::kill("")],
            Some("stop") => vec![Verdict::stop("")],
            _ => vec![],
        })
    }
    let mut host = MockHost::<acts>::new();
    for (expect, ask) in [
        ("Open Running", "restrict"),
        ("Restricted Running", "lock"),
        ("Locked Running", "restrict"),
        ("Locked Running", "freeze"),
        ("Locked Frozen", "stop"),
        ("Locked Stopped", "kill"),
        ("Locked Killed", "freeze"),
        ("Locked Killed", ""),
    ] {
        host.event("ContainerOom", json!({"expect": expect, "ask": ask}));
    }
    host.released().event("ContainerOom", json!({"expect": "Open Running"}));
    host.contained(Containment {
        network: Network::Locked,
        processes: Processes::Running,
    });
    host.event("ContainerOom", json!({"expect": "Locked Running"}));
}

#[test]
fn a_policy_that_is_no_function_is_found() {
    static CALLS: AtomicU64 = AtomicU64::new(0);

    #[policy(name = "moody", events(ContainerOom))]
    fn moody() -> Option<Verdict> {
        (CALLS.fetch_add(1, Ordering::Relaxed) % 2 == 0).then(|| Verdict::alert("odd"))
    }
    assert!(
        MockHost::<moody>::new()
            .faults("ContainerOom", json!({}))
            .contains("is a function")
    );
}

#[test]
#[should_panic(expected = "a host would refuse `Bad-`: a name is")]
fn a_policy_that_a_host_would_refuse_is_refused() {
    #[policy(name = "Bad-", events(ContainerOom))]
    fn bad() -> Option<Verdict> {
        None
    }
    MockHost::<bad>::new();
}

#[test]
#[should_panic(expected = "it can't decide: x")]
fn a_fault_fails_the_test() {
    #[policy(name = "broken", events(ContainerOom))]
    fn broken() -> Result<Vec<Verdict>, Fault> {
        Err("x".into())
    }
    MockHost::<broken>::new().event("ContainerOom", json!({}));
}
