//! Policies that take the place of others while events come.

use std::collections::BTreeMap;
use std::sync::Arc;

use clawker_model::event::{ContainerOom, PolicyDecided};
use clawker_model::{Action, Event, NetworkState, PluginDigest};
use clawker_plugin_host::{Unavailable, Window};
use tokio::sync::Semaphore;

use super::host::Host;
use super::script::{Script, policy, reply};
use crate::containment::policies::{Mode, Rule, SHADOW};

fn oom(host: &Host) -> ContainerOom {
    ContainerOom {
        container: host.container.clone(),
    }
}

/// The same policy in another version.
fn other(name: &str, code: &str) -> Rule {
    Rule {
        digest: PluginDigest::parse(&code.repeat(32)).expect("digest"),
        ..policy(name, &["ContainerOom"])
    }
}

async fn decisions(host: &Host, n: usize) -> Vec<PolicyDecided> {
    let mut found = Vec::new();
    for nth in 0..n {
        let decided = host.nth_row(nth, |row| match &row.event {
            Event::PolicyDecided(decided) => Some(decided.clone()),
            _ => None,
        });
        found.push(decided.await);
    }
    found
}

#[tokio::test]
async fn each_event_is_judged_once_by_the_version_whose_turn_it_was() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let old = Script::new(move |_, _, _, state| {
        let runtime = tokio::runtime::Handle::current();
        runtime.block_on(held.acquire()).expect("open").forget();
        Ok(reply(Vec::new(), &format!("{state}o")))
    });
    let new = Script::new(|_, _, _, state| Ok(reply(Vec::new(), &format!("{state}n"))));
    let Some(host) = Host::new(vec![policy("guard", &["ContainerOom"])], old).await else {
        return;
    };
    let mut seqs = Vec::new();
    for _ in 0..20 {
        seqs.push(host.append(oom(&host)).await);
    }
    gate.add_permits(1);
    decisions(&host, 1).await;
    host.until_standing(|standings| standings[0].running == 1).await;
    host.replace(vec![other("guard", "cd")], &new).await;
    let standing = host.standings().await.remove(0);
    assert_eq!((standing.draining, standing.waiting), (1, 18), "{standing:?}");
    seqs.push(host.append(oom(&host)).await);
    gate.add_permits(1);
    let decisions = decisions(&host, 21).await;
    let judged: Vec<u64> = decisions.iter().map(|decided| decided.seq).collect();
    assert_eq!(judged, seqs);
    let states: Vec<&str> = decisions.iter().map(|decided| decided.state.as_str()).collect();
    assert_eq!(states[..4], ["o", "oo", "n", "nn"], "state isn't other code's");
    host.until_standing(|standings| standings[0].draining == 0).await;
}

#[tokio::test]
async fn other_settings_of_the_same_code_keep_its_state() {
    let script = Script::new(|_, _, _, state| Ok(reply(Vec::new(), &format!("{state}x"))));
    let Some(host) = Host::new(vec![policy("guard", &["ContainerOom"])], script.clone()).await else {
        return;
    };
    host.append(oom(&host)).await;
    decisions(&host, 1).await;
    let changed = Rule {
        settings: r#"{"a":1}"#.into(),
        ..policy("guard", &["ContainerOom"])
    };
    host.replace(vec![changed], &script).await;
    host.append(oom(&host)).await;
    assert_eq!(decisions(&host, 2).await[1].state, "xx");
    let loaded = host.nth_row(1, |row| match &row.event {
        Event::PolicyLoaded(loaded) => Some(loaded.settings.clone()),
        _ => None,
    });
    assert_eq!(loaded.await, r#"{"a":1}"#);
}

#[tokio::test]
async fn a_policy_that_is_added_gets_its_windows_counted_from_what_was_before() {
    let Some(host) = Host::new(Vec::new(), Script::silent()).await else {
        return;
    };
    for _ in 0..3 {
        host.append(oom(&host)).await;
    }
    let script = Script::new(|_, _, facts, _| Ok(reply(Vec::new(), &facts.counts[0].count.to_string())));
    host.replace(vec![policy("guard", &["ContainerOom"])], &script).await;
    host.append(oom(&host)).await;
    let decided = decisions(&host, 1).await.remove(0);
    assert_eq!(decided.state, "4");
    let facts = decided.facts.expect("told");
    assert_eq!((facts.counts[0].count, facts.counts[0].seconds), (4, 600));
}

#[tokio::test]
async fn a_policy_that_is_removed_is_asked_no_more_and_what_it_asked_for_stays() {
    let script = Script::new(|_, _, _, _| Ok(reply(vec![Action::LockNetwork], "")));
    let Some(host) = Host::new(vec![policy("guard", &["ContainerOom"])], script.clone()).await else {
        return;
    };
    host.append(oom(&host)).await;
    host.until(|view| view.asked.network == NetworkState::Locked).await;
    host.replace(Vec::new(), &script).await;
    host.row(|row| matches!(&row.event, Event::PolicyUnloaded(e) if e.policy == "guard").then_some(()))
        .await;
    let asked = script.asked();
    host.append(oom(&host)).await;
    // Judged after it, so the one before would have been.
    host.replace(vec![policy("later", &["ContainerOom"])], &Script::silent())
        .await;
    host.append(oom(&host)).await;
    decisions(&host, 2).await;
    assert_eq!(script.asked(), asked);
    assert_eq!(host.view().asked.network, NetworkState::Locked);
}

#[tokio::test]
async fn a_quarantined_policy_that_is_enabled_again_is_asked_again() {
    let script = Script::new(|_, _, _, _| Err(Unavailable::Fuel));
    let Some(host) = Host::new(vec![policy("broken", &["ContainerOom"])], script).await else {
        return;
    };
    for _ in 0..3 {
        host.append(oom(&host)).await;
    }
    host.until_standing(|standings| standings[0].quarantined).await;
    let mended = Script::new(|_, _, _, _| Ok(reply(Vec::new(), "well")));
    host.replace(vec![policy("broken", &["ContainerOom"])], &mended).await;
    host.append(oom(&host)).await;
    host.row(|row| matches!(&row.event, Event::PolicyDecided(e) if e.state == "well").then_some(()))
        .await;
    let standing = host.standings().await.remove(0);
    assert!(!standing.quarantined && standing.failures == 3, "{standing:?}");
}

fn on_trial(promote_after: u64) -> Rule {
    Rule {
        mode: Mode::Shadow { promote_after },
        ..other(&format!("guard{SHADOW}"), "cd")
    }
}

#[tokio::test]
async fn a_version_on_trial_that_agrees_is_promoted_and_does_nothing_till_then() {
    let script = Script::new(|_, _, _, _| Ok(reply(vec![Action::Alert], "")));
    let policies = vec![policy("guard", &["ContainerOom"]), on_trial(5)];
    let Some(mut host) = Host::new(policies, script).await else {
        return;
    };
    for _ in 0..5 {
        host.append(oom(&host)).await;
    }
    let promotion = tokio::time::timeout(super::SOON, host.promoted.recv()).await;
    let promotion = promotion.expect("in time").expect("a promotion");
    assert_eq!((promotion.policy.as_str(), promotion.agreed), ("guard", 5));
    let alerts = || async {
        let kinds = host.kinds().await;
        kinds.iter().filter(|kind| **kind == "ThresholdCrossed").count()
    };
    assert!(alerts().await <= 5, "the one on trial alerts nobody");
    let mut by = BTreeMap::new();
    for decided in decisions(&host, 10).await {
        *by.entry(decided.policy).or_insert(0) += 1;
    }
    assert_eq!(
        by,
        BTreeMap::from([("guard".to_owned(), 5), ("guard@shadow".to_owned(), 5)])
    );
}

#[tokio::test]
async fn a_version_on_trial_that_differs_or_is_asked_of_more_stays_on_trial() {
    let script = Script::new(|nth, row, _, _| {
        let differs = nth == 1 && row.event.kind() == "ContainerOom";
        Ok(reply(if differs { vec![Action::Freeze] } else { Vec::new() }, ""))
    });
    let wide = Rule {
        events: ["ContainerOom", "EgressDenied"].map(String::from).into(),
        windows: vec![Window {
            kind: "EgressDenied".into(),
            seconds: 60,
        }],
        ..on_trial(1)
    };
    let Some(mut host) = Host::new(vec![policy("guard", &["ContainerOom"]), wide], script).await else {
        return;
    };
    host.append(oom(&host)).await;
    host.until_standing(|standings| standings[1].trial.as_ref().is_some_and(|trial| trial.differed == 1))
        .await;
    host.append(clawker_model::event::EgressDenied { count: 1, total: 1 })
        .await;
    host.until_standing(|standings| standings[1].trial.as_ref().is_some_and(|trial| trial.agreed == 1))
        .await;
    let first = host.standings().await[1].trial.clone().expect("on trial").first;
    assert!(first.expect("told").ends_with("nothing in force, freeze on trial"));
    assert!(host.promoted.try_recv().is_err());
    assert_eq!(host.view().causes, Vec::new());
}
