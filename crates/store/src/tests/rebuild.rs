//! Whatever happens, in whatever order and however interrupted: the projection kept row by row is the one
//! that a replay makes.

use clawker_model::event::*;
use clawker_model::{Containment, EffectNote, PluginDigest};
use proptest::prelude::*;

use super::*;
use crate::faults::Point;

#[derive(Debug, Clone)]
enum Happening {
    Event {
        agent: Option<usize>,
        event: Event,
    },
    /// Committed to the journal, and cut off before the projection.
    Cut {
        agent: Option<usize>,
        event: Event,
    },
    Restart,
    /// All rows go behind a checkpoint.
    Condensed,
}

fn event(kind: usize, agent: usize, c: usize, t: usize, n: u64) -> Event {
    let container = container(c);
    let key = format!("key-{c}");
    let by = ["host", "policy:a", "policy:b", "operator:uid:0"][t % 4].to_owned();
    let action = [
        Action::LockNetwork,
        Action::Freeze,
        Action::Revoke,
        Action::RestrictEgress { allow: Vec::new() },
    ][c % 4]
        .clone();
    match kind {
        0 => creating(agent),
        1 | 2 => created(agent, c),
        3 => AgentCreateFailed { message: "no".into() }.into(),
        4 => AgentRemoved {
            container: (t > 2).then_some(container),
        }
        .into(),
        5 => StartBegan {
            container,
            start: start(n),
            pid: 7,
        }
        .into(),
        6 => BundleIssued {
            container,
            start: n,
            generation: n,
            thumbprint: thumbprint(t),
            key_hash: "k".into(),
            join: None,
        }
        .into(),
        7 | 8 => RegistryRowWritten {
            row: registry_row(c, agent, t, (n > 2).then_some(t + 1)),
            token: (n > 3).then(|| format!("token-{t}")),
        }
        .into(),
        9 => RegistryRowEvicted {
            container,
            why: "gone".into(),
        }
        .into(),
        10 => InitStarted {
            container,
            start: n,
            steps: 2,
        }
        .into(),
        11 => InitStepStarted {
            name: "s".into(),
            index: 0,
            count: 2,
            key,
        }
        .into(),
        12 => InitEffectIntended {
            key,
            n: t as u32,
            effect: EffectNote {
                what: format!("read-file /{n}"),
                digest: n.to_string(),
            },
        }
        .into(),
        13 => InitEffectDone {
            key,
            n: t as u32,
            result: EffectNote {
                what: "written".into(),
                digest: n.to_string(),
            },
        }
        .into(),
        14 => InitStepCompleted {
            name: "s".into(),
            index: 0,
            key,
            duration_ms: n,
            message: String::new(),
        }
        .into(),
        15 => InitCompleted {
            container,
            start: n,
            duration_ms: n,
        }
        .into(),
        16 => InitFailed {
            container,
            start: n,
            step: "s".into(),
            reason: InitFailure::Timeout,
            detail: "d".into(),
        }
        .into(),
        17 => AgentReadyIntended { container, start: n }.into(),
        18 => AgentReadySent {
            container,
            start: n,
            pid: 9,
        }
        .into(),
        19 => MainExited {
            container,
            start: n,
            code: 1,
            signal: None,
            oom: false,
        }
        .into(),
        20 => PolicyDecided {
            policy: by,
            digest: PluginDigest::parse(&"0".repeat(64)).expect("digest"),
            seq: n,
            verdicts: Vec::new(),
            unavailable: (t == 0).then(|| "trap".into()),
            fuel: 1,
            micros: 1,
            state_before: String::new(),
            state_after: String::new(),
            state: format!("state-{n}"),
            facts: None,
        }
        .into(),
        21 | 22 => ContainmentAsked {
            cause: cause(&by, action, &format!("{n}")),
            asked: Containment::default(),
        }
        .into(),
        23 => Released {
            by,
            causes: 1,
            asked: Containment::default(),
        }
        .into(),
        24 => IdentityRevoked { container, by }.into(),
        25 => IdentityRotated {
            container,
            generation: 1,
            thumbprint: thumbprint(t),
            held: (n > 2).then(|| thumbprint(t + 1)),
            not_after: 0,
        }
        .into(),
        26 => IdentityConfirmed {
            container,
            thumbprint: thumbprint(t),
        }
        .into(),
        27 => IdentityRecovered {
            container,
            start: n,
            reason: UntrustedReason::CertExpired,
            count: 1,
        }
        .into(),
        28 => IdentityLeaked {
            container: container.clone(),
            shown_by: container,
        }
        .into(),
        29 => SessionConnected {
            address: "unix:x".into(),
            attempts: 1,
            peer_cn: "x".into(),
            thumbprint: None,
            start: n,
            init_life: "x".into(),
        }
        .into(),
        30 => {
            let Event::AgentCreating(creating) = creating(agent) else {
                unreachable!("that is what it makes")
            };
            AgentAdopted {
                spec: creating.spec,
                run: creating.run,
                container,
                start: (n > 2).then(|| start(n)),
                pid: 7,
                causes: vec![cause(&by, action, "kept")],
            }
            .into()
        }
        31 => AgentReadyFound {
            container,
            start: n,
            why: "found".into(),
        }
        .into(),
        32 => RebuildBegun {}.into(),
        33 => StoreRebuilt { adopted: 1, refused: 0 }.into(),
        _ => denied(n),
    }
}

fn happening() -> impl Strategy<Value = Happening> {
    let numbers = (0..35_usize, 0..3_usize, 0..4_usize, 0..6_usize, 1..5_u64);
    let event = numbers.prop_map(|(kind, agent, c, t, n)| (agent, event(kind, agent, c, t, n)));
    let whose = prop_oneof![9 => Just(true), 1 => Just(false)];
    prop_oneof![
        18 => (event.clone(), whose.clone())
            .prop_map(|((agent, event), known)| Happening::Event { agent: known.then_some(agent), event }),
        1 => (event, whose).prop_map(|((agent, event), known)| Happening::Cut { agent: known.then_some(agent), event }),
        1 => Just(Happening::Restart),
        1 => Just(Happening::Condensed),
    ]
}

async fn live_through(dir: &Path, happenings: Vec<Happening>) {
    let (mut store, mut faults) = open_faulty(dir);
    for happening in happenings {
        match happening {
            Happening::Event { agent, event } => match store.append(agent.map(name).as_ref(), event).await {
                Ok(_) => {}
                Err(e) if e.is_refusal() || e == crate::Error::TokenSpent => {}
                Err(e) => panic!("{e}"),
            },
            Happening::Cut { agent, event } => {
                faults.set(Point::BetweenCommits, true);
                let _ = store.append(agent.map(name).as_ref(), event).await;
                faults.set(Point::BetweenCommits, false);
            }
            Happening::Condensed => {
                let limits = crate::Limits {
                    max_bytes: u64::MAX,
                    max_age: Duration::ZERO,
                };
                store.retain(limits, 1 << 50).await.expect("retain");
            }
            Happening::Restart => {
                store.close().await;
                (store, faults) = open_faulty(dir);
                assert_eq!(store.report().rebuilt, None);
            }
        }
    }
    // A cut at the very end is repaired by the next question.
    store.agents().await.expect("agents");
    store.registry().await.expect("registry");
    assert_eq!(store.verify_chain(0).await.expect("verify"), None);
    store.close().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_replay_makes_the_projection_that_was_kept(happenings in prop::collection::vec(happening(), 1..80)) {
        let dir = tempfile::tempdir().expect("dir");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(live_through(dir.path(), happenings));
        let kept = dump(dir.path());
        std::fs::remove_file(Which::State.file(dir.path())).expect("remove");
        runtime.block_on(async { open(dir.path()).close().await });
        prop_assert_eq!(dump(dir.path()), kept);
    }
}
