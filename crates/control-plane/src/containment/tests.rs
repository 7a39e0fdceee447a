//! The task with a real store, real namespaces and cgroups where the test is root, and a scripted judge.

mod host;
pub(crate) mod kernel;
mod replacing;
mod script;
mod verdicts;

use std::time::Duration;

use clawker_model::{Action, Event, NetworkState, ProcessState, Row};

use super::*;
use host::Host;
use script::Script;

const SOON: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_locked_agent_is_reported_locked_only_when_the_kernel_says_so() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    let view = host.attach(1).await.expect("attached");
    assert_eq!(view.in_force.expect("read").to_string(), "open");
    let outcome = host.contain(Action::LockNetwork).await.expect("locked");
    println!("contain to read back: {} us", outcome.micros);
    assert_eq!(outcome.view.in_force.expect("read").to_string(), "locked");
    assert!(
        outcome.view.read_back.contains("egress drop on"),
        "{}",
        outcome.view.read_back
    );
    assert!(!host.can_send());
    let kinds = host.kinds().await;
    let order = ["ContainmentAsked", "ActionIntended", "ActionApplied"];
    assert_eq!(kinds[kinds.len() - 3..], order, "{kinds:?}");
    let outcome = host
        .handle
        .release(&host.agent, "operator:uid:0")
        .await
        .expect("released");
    assert_eq!(outcome.view.in_force.expect("read").to_string(), "open");
    assert!(host.can_send());
}

#[tokio::test]
async fn what_was_asked_before_the_start_holds_before_attach_returns() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    let outcome = host.contain(Action::LockNetwork).await.expect("stored");
    assert_eq!(outcome.view.in_force, None, "nothing to read from");
    let view = host.attach(1).await.expect("attached");
    assert_eq!(view.in_force.expect("read").network, NetworkState::Locked);
    assert!(!host.can_send());
}

#[tokio::test]
async fn a_frozen_agent_stands_still_and_is_thawed_by_release() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.handle.settle(&host.agent, 1).await.expect("settled");
    let outcome = host.contain(Action::Freeze).await.expect("frozen");
    println!("freeze to read back: {} us", outcome.micros);
    assert_eq!(outcome.view.in_force.expect("read").processes, ProcessState::Frozen);
    assert!(host.stands_still());
    let outcome = host
        .handle
        .release(&host.agent, "operator:uid:0")
        .await
        .expect("released");
    assert_eq!(outcome.view.in_force.expect("read").processes, ProcessState::Running);
    assert!(!host.stands_still());
}

#[tokio::test]
async fn kill_of_a_frozen_agent_ends_it_and_gives_the_next_start_nothing() {
    let Some(mut host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.contain(Action::Freeze).await.expect("frozen");
    host.reap();
    let outcome = host.contain(Action::Kill).await.expect("killed");
    assert_eq!(outcome.view.in_force.expect("read").processes, ProcessState::Killed);
    assert!(!host.is_alive());
    host.handle.detach(&host.agent, 1).await;
    host.restart();
    host.reap();
    let error = host.attach(2).await.expect_err("it is to be killed");
    assert!(matches!(error, ContainError::Ended { .. }), "{error}");
    assert!(!host.is_alive());
}

#[tokio::test]
async fn the_end_of_a_frozen_agent_leaves_its_init_to_be_stopped() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.contain(Action::Freeze).await.expect("frozen");
    host.reap_agent();
    host.handle.end(&host.agent).await.expect("ended");
    assert!(host.agent_is_empty());
    assert!(host.is_alive(), "the init is somebody else's to stop");
}

#[tokio::test]
async fn an_operator_cannot_lift_the_agents_own_rule() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    let rule = host.cause("host", Action::RestrictEgress { allow: Vec::new() });
    host.handle.adopt(&host.agent, vec![rule]).await;
    let view = host.attach(1).await.expect("attached");
    assert!(matches!(view.asked.network, NetworkState::Restricted { .. }));
    host.handle
        .release(&host.agent, "operator:uid:0")
        .await
        .expect("released");
    assert!(!host.can_send());
}

#[tokio::test]
async fn denied_packets_become_events_and_a_lock_adds_none() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    let rule = host.cause("host", Action::RestrictEgress { allow: Vec::new() });
    host.handle.adopt(&host.agent, vec![rule]).await;
    host.attach(1).await.expect("attached");
    assert!(!host.can_send());
    let denied = |row: &Row| match &row.event {
        Event::EgressDenied(event) => Some(event.clone()),
        _ => None,
    };
    let first = host.row(denied).await;
    assert_eq!(first.count, first.total);
    host.contain(Action::LockNetwork).await.expect("locked");
    assert!(!host.can_send());
    host.handle
        .release(&host.agent, "operator:uid:0")
        .await
        .expect("restricted again");
    assert!(!host.can_send());
    let second = host
        .row(|row| denied(row).filter(|event| event.total > first.total))
        .await;
    assert!(
        second.total > first.total + second.count,
        "the lock's drops were reported: {second:?}"
    );
}

#[tokio::test]
async fn an_interface_that_came_is_covered_by_reverify() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.contain(Action::LockNetwork).await.expect("locked");
    host.plug("late0");
    host.handle.reverify(&host.agent).await;
    let view = host.view();
    assert!(view.read_back.contains("late0"), "{}", view.read_back);
    assert_eq!(view.in_force.expect("read").network, NetworkState::Locked);
}

#[tokio::test]
async fn a_namespace_that_cannot_be_locked_freezes_its_agent() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.handle.settle(&host.agent, 1).await.expect("settled");
    // More than netfilter covers.
    host.plug_many(70);
    let error = host.contain(Action::LockNetwork).await.expect_err("it can't");
    assert!(
        matches!(
            &error,
            ContainError::Failed {
                axis: Axis::Network,
                ..
            }
        ),
        "{error}"
    );
    host.until(|view| view.asked.processes == ProcessState::Frozen).await;
    host.wait_still().await;
    let failed = |row: &Row| matches!(&row.event, Event::ActionFailed(e) if e.escalate == Some(Action::Freeze));
    host.row(|row| failed(row).then_some(())).await;
    assert_eq!(host.view().in_force, None, "never reported contained unread");
}

/// Neither can be contained apart from the other, and the weaker policy would undo the stronger one.
#[tokio::test]
async fn two_in_one_network_namespace_are_both_locked_until_an_operator_releases_them() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    assert!(host.can_send());
    let other = FullName::parse("clawker.other").expect("name");
    let foreign = ContainerId::parse(&"ef".repeat(32)).expect("id");
    let view = host.attach_as(&other, &foreign, 1).await.expect("attached");
    assert_eq!(view.in_force.expect("read").network, NetworkState::Locked);
    host.until(|view| {
        view.in_force
            .as_ref()
            .is_some_and(|now| now.network == NetworkState::Locked)
    })
    .await;
    assert!(!host.can_send());
    let shared = |row: &Row| match &row.event {
        Event::NetnsShared(shared) if shared.container == host.container => Some(shared.foreign.clone()),
        _ => None,
    };
    assert_eq!(host.row(shared).await, foreign);

    // The other one goes: what it leaves goes on being ours to change.
    host.handle.detach(&other, 1).await;
    let released = host
        .handle
        .release(&host.agent, "operator:uid:0")
        .await
        .expect("released");
    assert_eq!(released.view.in_force.expect("read").network, NetworkState::Open);
    assert!(host.can_send());
}

#[tokio::test]
async fn a_revocation_is_journaled_and_survives_a_detach() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.define().await;
    let outcome = host.contain(Action::Revoke).await.expect("revoked");
    assert_eq!(outcome.view.asked.identity, clawker_model::IdentityState::Revoked);
    host.row(|row| matches!(&row.event, Event::IdentityRevoked(e) if e.by == "operator:uid:0").then_some(()))
        .await;
    let view = host.attach(1).await.expect("attached");
    assert_eq!(view.asked.identity, clawker_model::IdentityState::Revoked);
}

#[tokio::test]
async fn a_kill_does_not_wait_for_a_stop_under_way() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.reap();
    // The stand-in for an init ignores SIGTERM.
    let stop = host.contain(Action::Stop);
    let kill = async {
        host.until(|view| view.asked.processes == ProcessState::Stopped).await;
        host.contain(Action::Kill).await
    };
    let (_, killed) = tokio::time::timeout(SOON, async { tokio::join!(stop, kill) })
        .await
        .expect("not 10 s");
    assert_eq!(killed.expect("killed").view.asked.processes, ProcessState::Killed);
    assert!(!host.is_alive());
}
