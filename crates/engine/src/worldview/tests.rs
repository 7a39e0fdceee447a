//! A life or two, and what rows out of order may not do.

mod properties;
mod samples;

use super::*;
use samples::{Journal, container};

/// The agent after these rows.
fn after(rows: &[(&str, serde_json::Value)]) -> Agent {
    let world = Journal::of(rows).world();
    world.agents.values().next().cloned().unwrap_or_default()
}

fn a_start(n: u64) -> (&'static str, serde_json::Value) {
    (
        "StartBegan",
        serde_json::json!({"container": container(1), "pid": 7,
            "start": {"number": n, "boot_id": "b", "init_start_time": n}}),
    )
}

macro_rules! row {
    ($kind:ident $($body:tt)*) => { (stringify!($kind), serde_json::json!({$($body)*})) };
}

#[test]
fn what_nobody_spoke_of_is_unknown() {
    let agent = Agent::default();
    assert_eq!(agent.life.state, ContainerState::Unknown);
    assert_eq!(agent.trust.value, Verdict::Unknown);
    assert_eq!(agent.health.value, Health::Unknown);
    assert_eq!(agent.plan.state, PlanState::Unknown);
    assert_eq!(agent.session.state, SessionState::None);
    assert_eq!(Worldview::default().agents.len(), 0);
}

#[test]
fn an_agent_that_is_taken_over_runs_and_is_contained_as_it_was() {
    let c = container(1);
    let locked = serde_json::json!({"by": "host:rebuild", "action": {"action": "lock-network"}, "reason": "r",
        "event": 0, "at_ms": 1});
    let mut adopted = samples::body("AgentAdopted", 1, 1);
    adopted["causes"] = serde_json::json!([locked]);
    let rows = [("RebuildBegun", serde_json::json!({})), ("AgentAdopted", adopted)];
    let world = Journal::of(&rows).world();
    assert!(world.host.rebuilding);
    let agent = after(&rows);
    assert_eq!((agent.start, agent.life.state), (1, ContainerState::Running));
    assert_eq!(agent.asked.network, clawker_model::NetworkState::Locked);
    assert_eq!(agent.command.value, Command::NotYet);
    let rows = [
        rows.to_vec(),
        vec![
            row!(AgentReadyFound "container": c, "start": 1, "why": "w"),
            row!(AgentReadySent "container": c, "start": 1, "pid": 9),
            row!(StoreRebuilt "adopted": 1, "refused": 0),
        ],
    ]
    .concat();
    let agent = after(&rows);
    assert_eq!(
        (agent.plan.state, agent.command.value),
        (PlanState::Done, Command::Running { pid: 9 })
    );
    assert!(!Journal::of(&rows).world().host.rebuilding);
}

#[test]
fn one_that_is_not_taken_over_is_known_all_the_same() {
    let c = container(1);
    let refused = row!(AdoptionRefused "container": c, "why": "w");
    let untrusted = row!(AgentUntrusted "reason": "register_failed", "detail": "w");
    let agent = after(&[refused, untrusted]);
    assert!(matches!(agent.trust.value, Verdict::Untrusted { .. }));
}

#[test]
fn an_agents_life_is_seen() {
    let c = container(1);
    let mut rows = vec![
        row!(AgentCreated "container": c, "run": samples::RUN),
        row!(ContainerStarted "container": c, "after": 0),
        row!(SessionConnecting "address": "unix:x"),
        a_start(1),
        row!(SessionConnected "address": "unix:x", "attempts": 2, "peer_cn": "clawker.a", "thumbprint": null, "start": 1, "init_life": "i"),
        row!(AgentTrusted "container": c, "start": 1),
        row!(InitStarted "container": c, "start": 1, "steps": 2),
        row!(InitStepStarted "name": "git", "index": 1, "count": 2, "key": "k"),
    ];
    let agent = after(&rows);
    assert_eq!(agent.life.state, ContainerState::Running);
    assert_eq!(
        (agent.session.state.clone(), agent.session.attempts),
        (SessionState::Connected, 2)
    );
    assert_eq!(
        (agent.trust.value.clone(), agent.trust.since_ms),
        (Verdict::Trusted, 6000)
    );
    assert_eq!(
        (agent.plan.index, agent.plan.count, agent.plan.step.as_str()),
        (1, 2, "git")
    );
    assert_eq!(agent.last_seen_ms, 8000);
    rows.extend([
        row!(InitCompleted "container": c, "start": 1, "duration_ms": 5),
        row!(AgentReadySent "container": c, "start": 1, "pid": 44),
        row!(ContainerDied "container": c, "exit_code": 3, "start": 1),
        row!(MainExited "container": c, "start": 1, "code": 3, "signal": null, "oom": false),
    ]);
    let agent = after(&rows);
    assert_eq!(agent.life.state, ContainerState::Exited { code: 3 });
    assert_eq!(agent.session.state, SessionState::None);
    assert_eq!(agent.command.value, Command::Ended);
    assert_eq!(agent.exit.as_ref().map(|exit| exit.code), Some(3));
    assert_eq!(agent.plan.state, PlanState::Done);
    // The next start has nothing of it, and the exit is remembered.
    rows.push(a_start(2));
    let agent = after(&rows);
    assert_eq!((agent.life.state, agent.start), (ContainerState::Running, 2));
    assert_eq!(agent.plan.state, PlanState::Unknown);
    assert_eq!(agent.trust.value, Verdict::Unknown);
    assert_eq!(agent.exit.as_ref().map(|exit| exit.start), Some(1));
}

/// Docker's start, the agent's attestation and the end of the start before are told by tasks that don't wait for each
/// other.
#[test]
fn the_end_of_an_earlier_start_comes_late() {
    let c = container(1);
    let early = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        a_start(1),
        row!(ContainerStarted "container": c, "after": 1),
        row!(ContainerDied "container": c, "exit_code": 3, "start": 1),
    ];
    assert_eq!(after(&early).life.state, ContainerState::Running);
    let late = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        a_start(1),
        row!(ContainerDied "container": c, "exit_code": 3, "start": 1),
        row!(ContainerStarted "container": c, "after": 0),
    ];
    assert_eq!(after(&late).life.state, ContainerState::Exited { code: 3 });
    let unattested = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        row!(ContainerStarted "container": c, "after": 0),
        row!(ContainerDied "container": c, "exit_code": 1, "start": 0),
        row!(ContainerStarted "container": c, "after": 0),
    ];
    assert_eq!(after(&unattested).life.state, ContainerState::Running);
    assert_eq!(after(&unattested[..3]).life.state, ContainerState::Exited { code: 1 });
}

#[test]
fn an_intruder_takes_nothing_from_the_agents_trust() {
    let c = container(1);
    let trusted = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        a_start(1),
        row!(AgentTrusted "container": c, "start": 1),
        row!(AgentUntrusted "reason": "peer_mismatch", "detail": "pid 9", "intruder": true),
    ];
    let agent = after(&trusted);
    assert_eq!(agent.trust.value, Verdict::Trusted);
    assert_eq!(agent.intruder.map(|intruder| intruder.detail).as_deref(), Some("pid 9"));
    let mut lost = trusted.to_vec();
    lost.push(row!(AgentUntrusted "reason": "cert_expired", "detail": "x"));
    assert!(matches!(after(&lost).trust.value, Verdict::Untrusted { .. }));
}

#[test]
fn a_late_row_of_a_removed_agent_brings_nobody_back() {
    let c = container(1);
    let rows = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        row!(AgentRemoved "container": c),
        row!(SessionBroken "address": "unix:x", "reason": "eof"),
        row!(AgentUntrusted "reason": "cert_expired", "detail": "x"),
        row!(ContainerDied "container": c, "exit_code": 0, "start": 1),
    ];
    assert_eq!(Journal::of(&rows).world().agents.len(), 0);
    // Nor does the removal of an earlier container take its successor along.
    let rows = [
        row!(AgentCreated "container": container(2), "run": samples::RUN),
        row!(AgentRemoved "container": container(1)),
    ];
    assert_eq!(Journal::of(&rows).world().agents.len(), 1);
}

#[test]
fn a_new_life_of_the_control_plane_has_judged_nobody() {
    let c = container(1);
    let rows = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        a_start(1),
        row!(SessionConnected "address": "unix:x", "attempts": 1, "peer_cn": "clawker.a", "thumbprint": null, "start": 1, "init_life": "i"),
        row!(AgentTrusted "container": c, "start": 1),
        row!(SubsystemDegraded "subsystem": "engine", "detail": "no answer"),
        row!(ControlPlaneStarted "version": "0.1.0", "boot_id": "b"),
    ];
    let world = Journal::of(&rows).world();
    assert!(world.host.degraded.is_empty());
    let agent = world.agents.values().next().expect("an agent");
    assert_eq!((agent.start, agent.life.state), (1, ContainerState::Running));
    assert_eq!(
        (&agent.session.state, &agent.trust.value),
        (&SessionState::None, &Verdict::Unknown)
    );
}

#[test]
fn an_outage_is_as_old_as_its_first_word() {
    let rows = [
        row!(SubsystemDegraded "subsystem": "engine", "detail": "no answer"),
        row!(SubsystemDegraded "subsystem": "engine", "detail": "no socket"),
        row!(ReapDegraded "reason": "no socket"),
    ];
    let host = Journal::of(&rows).world().host;
    let engine = &host.degraded["engine"];
    assert_eq!((engine.since_ms, engine.detail.as_str()), (1000, "no socket"));
    assert!(host.reap_degraded.is_some());
    let mut over = rows.to_vec();
    over.push(row!(SubsystemRecovered "subsystem": "engine"));
    let host = Journal::of(&over).world().host;
    assert!(host.degraded.is_empty() && host.reap_degraded.is_none());
}

#[test]
fn a_session_of_a_paused_container_is_frozen_and_not_broken() {
    let c = container(1);
    let rows = [
        row!(AgentCreated "container": c, "run": samples::RUN),
        a_start(1),
        row!(SessionConnected "address": "unix:x", "attempts": 1, "peer_cn": "", "thumbprint": null, "start": 1, "init_life": "i"),
        row!(ContainerPaused "container": c),
        row!(SessionBroken "address": "unix:x", "reason": "silent"),
    ];
    assert!(after(&rows).session_frozen());
    let mut over = rows.to_vec();
    over.push(row!(ContainerUnpaused "container": c));
    assert!(!after(&over).session_frozen());
}
