//! Policies, scripted: what becomes of their verdicts and of their failures.

use std::sync::Arc;

use clawker_model::event::{ContainerOom, EgressDenied};
use clawker_model::{Action, Event, NetworkState};
use clawker_plugin_host::Unavailable;
use tokio::sync::Semaphore;

use super::host::Host;
use super::script::{Script, policy, reply};
use crate::containment::policies::{FailMode, Mode};

fn oom(host: &Host) -> ContainerOom {
    ContainerOom {
        container: host.container.clone(),
    }
}

#[tokio::test]
async fn a_policy_locks_on_the_event_that_it_asked_for() {
    let script = Script::new(|_, row, facts, state| {
        assert_eq!(row.event.kind(), "ContainerOom");
        let n = facts.counts[0].count;
        let action = if n >= 2 { Action::LockNetwork } else { Action::Observe };
        Ok(reply(vec![action], &format!("{state}{n}")))
    });
    let Some(host) = Host::new(vec![policy("guard", &["ContainerOom"])], script).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.append(oom(&host)).await;
    host.append(EgressDenied { count: 1, total: 1 }).await;
    host.row(|row| matches!(&row.event, Event::PolicyDecided(e) if e.state == "1").then_some(()))
        .await;
    assert_eq!(host.view().asked.network, NetworkState::Open);
    host.append(oom(&host)).await;
    host.until(|view| {
        view.in_force
            .as_ref()
            .is_some_and(|c| c.network == NetworkState::Locked)
    })
    .await;
    let decided = host.row(|row| match &row.event {
        Event::PolicyDecided(e) if e.state == "12" => Some(e.clone()),
        _ => None,
    });
    let decided = decided.await;
    assert_ne!(decided.state_before, decided.state_after);
    assert_eq!(host.view().causes[0].by, "policy:guard");
}

#[tokio::test]
async fn a_slow_policy_does_not_delay_anothers_action() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let script = Script::new(move |rule, _, _, _| {
        if rule == 0 {
            let runtime = tokio::runtime::Handle::current();
            runtime.block_on(held.acquire()).expect("open").forget();
        }
        Ok(reply(vec![Action::LockNetwork], ""))
    });
    let policies = vec![policy("slow", &["ContainerOom"]), policy("quick", &["ContainerOom"])];
    let Some(host) = Host::new(policies, script).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.append(oom(&host)).await;
    host.until(|view| {
        view.in_force
            .as_ref()
            .is_some_and(|c| c.network == NetworkState::Locked)
    })
    .await;
    assert_eq!(host.view().causes.len(), 1, "the slow one has not answered yet");
    gate.add_permits(1);
    host.until(|view| view.causes.len() == 2).await;
}

#[tokio::test]
async fn one_agents_events_reach_a_policy_in_order_with_its_state() {
    let script = Script::new(|_, row, _, state| Ok(reply(Vec::new(), &format!("{state}.{}", row.seq))));
    let Some(host) = Host::new(vec![policy("order", &["ContainerOom"])], script).await else {
        return;
    };
    let mut expected = String::new();
    for _ in 0..20 {
        let seq = host.append(oom(&host)).await;
        expected.push_str(&format!(".{seq}"));
    }
    host.row(|row| matches!(&row.event, Event::PolicyDecided(e) if e.state == expected).then_some(()))
        .await;
}

#[tokio::test]
async fn a_policy_that_traps_has_its_fallback_done_and_is_quarantined() {
    let script = Script::new(|_, _, _, _| Err(Unavailable::Trap("unreachable".into())));
    let Some(host) = Host::new(vec![policy("broken", &["ContainerOom"])], script.clone()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.append(oom(&host)).await;
    host.until(|view| {
        view.in_force
            .as_ref()
            .is_some_and(|c| c.network == NetworkState::Locked)
    })
    .await;
    let cause = host.view().causes[0].clone();
    assert_eq!(
        (cause.by.as_str(), cause.reason.contains("unreachable")),
        ("policy:broken", true),
        "{cause:?}"
    );
    for _ in 0..3 {
        host.append(oom(&host)).await;
    }
    host.row(|row| matches!(&row.event, Event::PluginQuarantined(e) if e.name == "broken").then_some(()))
        .await;
    // The fallback stays, and comes back for the next event even after a release.
    host.handle
        .release(&host.agent, "operator:uid:0")
        .await
        .expect("released");
    let asked = script.asked();
    host.append(oom(&host)).await;
    host.until(|view| view.asked.network == NetworkState::Locked).await;
    assert_eq!(script.asked(), asked, "a quarantined policy is not asked");
}

#[tokio::test]
async fn fail_modes_and_monitor_do_what_they_say() {
    let script = Script::new(|rule, _, _, _| match rule {
        0..=1 => Err(Unavailable::Fuel),
        _ => Ok(reply(vec![Action::Freeze], "")),
    });
    let mut policies: Vec<_> = ["open", "last", "monitor"]
        .iter()
        .map(|name| policy(name, &["ContainerOom"]))
        .collect();
    policies[0].fail_mode = FailMode::Open;
    policies[1].fail_mode = FailMode::Last;
    policies[2].mode = Mode::Monitor;
    let Some(host) = Host::new(policies, script).await else {
        return;
    };
    host.append(oom(&host)).await;
    for name in ["open", "last", "monitor"] {
        host.row(|row| matches!(&row.event, Event::PolicyDecided(e) if e.policy == name).then_some(()))
            .await;
    }
    assert_eq!(host.view().causes, Vec::new());
}

#[tokio::test]
async fn a_policy_is_not_fed_by_its_own_consequences() {
    let greedy = policy("greedy", Event::KINDS);
    let script = Script::new(|_, _, _, _| Ok(reply(vec![Action::Alert, Action::LockNetwork], "")));
    let Some(host) = Host::new(vec![greedy], script.clone()).await else {
        return;
    };
    host.attach(1).await.expect("attached");
    host.append(oom(&host)).await;
    host.until(|view| {
        view.in_force
            .as_ref()
            .is_some_and(|c| c.network == NetworkState::Locked)
    })
    .await;
    // A marker behind everything that followed: when it is judged, the rest would have been.
    host.append(oom(&host)).await;
    host.row(|row| matches!(&row.event, Event::PolicyDecided(e) if e.seq > 3).then_some(()))
        .await;
    assert_eq!(script.asked(), 2);
}

#[tokio::test]
async fn what_a_crash_left_unjudged_is_judged_by_the_next_life() {
    let script = Script::new(|_, _, _, _| Ok(reply(vec![Action::LockNetwork], "")));
    let Some(host) = Host::unjudged(vec![policy("guard", &["ContainerOom"])], script).await else {
        return;
    };
    host.until(|view| view.asked.network == NetworkState::Locked).await;
}
