use clawker_model::EffectNote;
use clawker_model::event::*;

use super::*;
use crate::record::{EffectRecord, InitProgress, Restarts, StepEnd, StepFailure};

#[tokio::test]
async fn restarts_are_counted_until_an_operator_starts_it() {
    let w = World::with_agent().await;
    let c = container(1);
    assert_eq!(w.agent().await.restarts, None);
    let planned = |restarts: u32, of: usize| RestartPlanned {
        container: container(of),
        end: format!("end {restarts}"),
        code: 1,
        restarts,
        delay_ms: 200,
        due_ms: 7,
    };
    w.happens(planned(1, 1)).await;
    w.happens(planned(2, 1)).await;
    // Of a container that isn't its own any more.
    w.happens(planned(9, 2)).await;
    let kept = Restarts {
        end: "end 2".into(),
        restarts: 2,
        delay_ms: 200,
        due_ms: 7,
        over: None,
    };
    assert_eq!(w.agent().await.restarts, Some(kept.clone()));
    w.happens(RestartsEnded {
        container: c.clone(),
        by: "operator:uid:0".into(),
        why: "stop".into(),
    })
    .await;
    let over = Restarts {
        over: Some("operator:uid:0".into()),
        ..kept
    };
    assert_eq!(w.agent().await.restarts, Some(over));
    let by = "operator:uid:0".into();
    w.happens(RestartsBegun { container: c, by }).await;
    assert_eq!(w.agent().await.restarts, None);
}

#[tokio::test]
async fn an_agents_life() {
    let w = World::with_agent().await;
    let c = container(1);
    let fresh = w.agent().await;
    assert_eq!(
        (fresh.container.clone(), fresh.run, fresh.start_pid),
        (Some(c.clone()), run_id(0), 0)
    );
    assert_eq!(fresh.init, InitProgress::NotStarted);

    w.happens(StartBegan {
        container: c.clone(),
        start: start(1),
        pid: 42,
    })
    .await;
    // The last one is stale: a generation never falls.
    for generation in [1, 2, 1] {
        let issued = BundleIssued {
            container: c.clone(),
            start: 1,
            generation,
            thumbprint: thumbprint(7),
            key_hash: "k".into(),
            join: None,
        };
        w.happens(issued).await;
    }
    w.happens(InitStarted {
        container: c.clone(),
        start: 1,
        steps: 2,
    })
    .await;
    w.happens(InitStepStarted {
        name: "git".into(),
        index: 0,
        count: 2,
        key: "k".into(),
    })
    .await;
    let a = w.agent().await;
    assert_eq!((a.start, a.start_pid, a.generation), (Some(start(1)), 42, 2));
    assert_eq!(a.issued.map(|i| (i.generation, i.count)), Some((2, 2)));
    assert_eq!(
        a.init,
        InitProgress::Running {
            start: 1,
            steps: 2,
            step: Some("git".into())
        }
    );

    w.happens(InitCompleted {
        container: c.clone(),
        start: 1,
        duration_ms: 9,
    })
    .await;
    w.happens(AgentReadyIntended {
        container: c.clone(),
        start: 1,
    })
    .await;
    assert_eq!(
        (w.agent().await.ready_start, w.agent().await.sent_start),
        (Some(1), None)
    );
    w.happens(AgentReadySent {
        container: c.clone(),
        start: 1,
        pid: 50,
    })
    .await;
    w.happens(MainExited {
        container: c.clone(),
        start: 1,
        code: 3,
        signal: None,
        oom: true,
    })
    .await;
    let a = w.agent().await;
    assert_eq!((a.ready_start, a.sent_start), (Some(1), Some(1)));
    assert_eq!(
        a.init,
        InitProgress::Completed {
            start: 1,
            duration_ms: 9
        }
    );
    let exit = a.exit.expect("exit");
    assert_eq!((exit.start, exit.code, exit.oom), (1, 3, true));

    let failed = InitFailed {
        container: c.clone(),
        start: 2,
        step: "git".into(),
        reason: InitFailure::Timeout,
        detail: "slow".into(),
    };
    w.happens(failed).await;
    assert!(matches!(w.agent().await.init, InitProgress::Failed { start: 2, .. }));
    assert_eq!(
        w.store.agent_by_container(&c).await.expect("read"),
        Some(w.agent().await)
    );
    assert_eq!(w.store.agents().await.expect("read"), [w.agent().await]);
    w.store.close().await;
}

#[tokio::test]
async fn events_of_another_container_change_nothing() {
    let w = World::with_agent().await;
    let before = w.agent().await;
    let c = container(9);
    w.happens(StartBegan {
        container: c.clone(),
        start: start(4),
        pid: 1,
    })
    .await;
    w.happens(AgentReadyIntended {
        container: c.clone(),
        start: 4,
    })
    .await;
    w.happens(InitCompleted {
        container: c.clone(),
        start: 4,
        duration_ms: 1,
    })
    .await;
    w.happens(MainExited {
        container: c,
        start: 4,
        code: 1,
        signal: None,
        oom: false,
    })
    .await;
    assert_eq!(w.agent().await, before);
    w.store.close().await;
}

#[tokio::test]
async fn a_removed_agent_leaves_nothing_and_another_of_its_name_begins_anew() {
    for end in [
        AgentRemoved {
            container: Some(container(1)),
        }
        .into(),
        AgentCreateFailed { message: "no".into() }.into(),
        creating(0),
    ] {
        let again = matches!(end, Event::AgentCreating(_));
        let w = World::with_agent().await;
        w.happens(RegistryRowWritten {
            row: registry_row(1, 0, 1, None),
            token: None,
        })
        .await;
        w.happens(super::containing::asked("operator:uid:0", Action::Freeze, "x"))
            .await;
        w.happens(InitEffectIntended {
            key: "k2".into(),
            n: 0,
            effect: read_file("/a"),
        })
        .await;
        w.happens(InitStepCompleted {
            name: "s".into(),
            index: 0,
            key: "k".into(),
            duration_ms: 1,
            message: String::new(),
        })
        .await;
        w.happens(decided("s1", None)).await;
        w.happens(end).await;
        assert_eq!(w.store.agent(&name(0)).await.expect("read").is_some(), again);
        assert_eq!(w.store.causes(&name(0)).await.expect("read"), []);
        assert_eq!(w.store.registry().await.expect("read"), []);
        assert_eq!(w.store.step_end("k").await.expect("read"), None);
        assert_eq!(w.store.effects("k2").await.expect("read"), []);
        assert_eq!(w.store.policy_state("p", &code(), &name(0)).await.expect("read"), "");
        w.store.close().await;
    }
}

#[tokio::test]
async fn a_container_belongs_to_one_agent() {
    let w = World::with_agent().await;
    w.store.append(Some(&name(1)), creating(1)).await.expect("append");
    w.store.append(Some(&name(1)), created(1, 1)).await.expect("append");
    assert_eq!(w.agent().await.container, None);
    let holder = w
        .store
        .agent_by_container(&container(1))
        .await
        .expect("read")
        .expect("agent");
    assert_eq!(holder.spec.name, name(1));
    w.store.close().await;
}

fn read_file(path: &str) -> EffectNote {
    EffectNote {
        what: format!("read-file {path}"),
        digest: String::new(),
    }
}

#[tokio::test]
async fn effects_are_the_history_of_a_step_until_it_completes() {
    let w = World::with_agent().await;
    let key = || "k".to_owned();
    let intended = |n, path| InitEffectIntended {
        key: key(),
        n,
        effect: read_file(path),
    };
    let result = EffectNote {
        what: "1 byte".into(),
        digest: "x".into(),
    };
    w.happens(intended(1, "/b")).await;
    w.happens(intended(0, "/a")).await;
    w.happens(InitEffectDone {
        key: key(),
        n: 0,
        result: result.clone(),
    })
    .await;
    w.happens(InitEffectDone {
        key: key(),
        n: 5,
        result: result.clone(),
    })
    .await;
    let expected = [
        EffectRecord {
            n: 0,
            effect: read_file("/a"),
            result: Some(result.clone()),
            tries: 1,
        },
        EffectRecord {
            n: 1,
            effect: read_file("/b"),
            result: None,
            tries: 1,
        },
    ];
    assert_eq!(w.store.effects("k").await.expect("read"), expected);
    w.happens(intended(0, "/a")).await;
    let again = w.store.effects("k").await.expect("read");
    assert_eq!(
        (&again[0].result, again[0].tries),
        (&Some(result), 2),
        "the same intent keeps its result, and is counted"
    );
    w.happens(intended(0, "/c")).await;
    assert_eq!(
        w.store.effects("k").await.expect("read")[0].result,
        None,
        "another one has none yet"
    );

    assert_eq!(w.store.step_end("k").await.expect("read"), None);
    let done = InitStepCompleted {
        name: "s".into(),
        index: 0,
        key: key(),
        duration_ms: 1,
        message: String::new(),
    };
    w.happens(done).await;
    assert_eq!(w.store.step_end("k").await.expect("read"), Some(StepEnd::Completed));
    assert_eq!(w.store.effects("k").await.expect("read"), []);
    w.store.close().await;
}

#[tokio::test]
async fn a_step_that_failed_has_no_history_and_may_complete_later() {
    let w = World::with_agent().await;
    w.happens(InitEffectIntended {
        key: "k".into(),
        n: 0,
        effect: read_file("/a"),
    })
    .await;
    let failure = StepFailure {
        start: 1,
        reason: InitFailure::Timeout,
        detail: "slow".into(),
    };
    w.happens(InitStepFailed {
        name: "s".into(),
        index: 1,
        key: "k".into(),
        start: failure.start,
        reason: failure.reason,
        detail: failure.detail.clone(),
        duration_ms: 1,
    })
    .await;
    assert_eq!(
        w.store.step_end("k").await.expect("read"),
        Some(StepEnd::Failed(failure))
    );
    assert_eq!(w.store.effects("k").await.expect("read"), []);
    w.happens(InitStepCompleted {
        name: "s".into(),
        index: 1,
        key: "k".into(),
        duration_ms: 1,
        message: String::new(),
    })
    .await;
    assert_eq!(w.store.step_end("k").await.expect("read"), Some(StepEnd::Completed));
    w.store.close().await;
}
