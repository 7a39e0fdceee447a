//! A journal that is new, and agents that were there before it.

use clawker_model::event::*;

use super::*;
use crate::Restarts;

fn adopted(agent: usize, c: usize, running: bool) -> AgentAdopted {
    let Event::AgentCreating(creating) = creating(agent) else {
        unreachable!("that is what it makes")
    };
    AgentAdopted {
        spec: creating.spec,
        run: creating.run,
        container: container(c),
        start: running.then(|| start(1)),
        pid: 7,
        causes: vec![cause("host:rebuild", Action::LockNetwork, "found")],
    }
}

#[tokio::test]
async fn a_rebuild_lasts_from_the_first_row_to_the_one_that_ends_it() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    assert!(store.report().begun);
    assert!(!store.rebuilding().await.expect("read"));
    store.append(None, RebuildBegun {}).await.expect("append");
    store.close().await;

    // Cut here, and with its projection lost on top.
    std::fs::remove_file(Which::State.file(dir.path())).expect("remove");
    let store = open(dir.path());
    assert!(!store.report().begun, "it has a row");
    assert!(store.rebuilding().await.expect("read"));
    let ended = StoreRebuilt { adopted: 0, refused: 0 };
    store.append(None, ended).await.expect("append");
    assert!(!store.rebuilding().await.expect("read"));
    store.close().await;
}

#[tokio::test]
async fn a_journal_that_was_cut_to_nothing_is_not_new() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    store.append(Some(&name(0)), creating(0)).await.expect("append");
    store.seal().await.expect("seal");
    store.close().await;
    tamper(dir.path(), "DELETE FROM journal");
    let store = open(dir.path());
    assert_eq!((store.report().cut, store.report().begun), (Some(1), false));
    store.close().await;
}

#[tokio::test]
async fn an_agent_that_is_taken_over_is_contained_from_its_first_row_on() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    for (agent, running) in [(0, true), (1, false)] {
        let row = adopted(agent, agent + 1, running);
        store.append(Some(&name(agent)), row).await.expect("append");
    }
    let runs = store.agent(&name(0)).await.expect("read").expect("agent");
    assert_eq!((runs.start, runs.adopted), (Some(start(1)), Some(1)));
    assert_eq!((runs.ready_start, runs.restarts), (None, None));
    assert_eq!(runs.causes.len(), 1);
    let down = store.agent(&name(1)).await.expect("read").expect("agent");
    assert_eq!((down.start, down.adopted), (None, Some(0)));
    let over = Restarts {
        over: Some("host".into()),
        ..Restarts::default()
    };
    assert_eq!(down.restarts, Some(over), "nothing starts it by itself");

    let found = AgentReadyFound {
        container: container(1),
        start: 1,
        why: "it says so".into(),
    };
    store.append(Some(&name(0)), found).await.expect("append");
    let runs = store.agent(&name(0)).await.expect("read").expect("agent");
    assert_eq!(runs.ready_start, Some(1));
    assert!(matches!(runs.init, crate::InitProgress::Completed { start: 1, .. }));
    store.close().await;
}
