//! Old rows go behind a sealed checkpoint, and nothing is lost with them but themselves.

use super::*;
use crate::checkpoint::Checkpoint;
use crate::faults::Point;
use crate::{BadSeal, Error, Finding, Limits, Retained};

/// Everything is too old.
pub(super) const NOTHING: Limits = Limits {
    max_bytes: u64::MAX,
    max_age: Duration::ZERO,
};

/// Later than any row.
pub(super) const LATER: u64 = 1 << 50;

fn at_most(max_bytes: u64) -> Limits {
    Limits {
        max_bytes,
        max_age: Duration::MAX,
    }
}

/// A store with an agent, and so many rows after it.
pub(super) async fn lived(dir: &Path, rows: u64) -> (Store, Faults) {
    let (store, faults) = open_faulty(dir);
    for event in [creating(0), created(0, 1)] {
        store.append(Some(&name(0)), event).await.expect("append");
    }
    let asked = clawker_model::event::ContainmentAsked {
        cause: cause("operator:uid:0", Action::LockNetwork, "x"),
        asked: clawker_model::Containment::default(),
    };
    store.append(Some(&name(0)), asked).await.expect("append");
    for n in 0..rows {
        store
            .append(Some(&name(0)), sized(1000 + n as usize))
            .await
            .expect("append");
    }
    (store, faults)
}

async fn expect_sound(store: &Store) {
    let audit = store.audit(vec![]).await.expect("audit");
    assert!(audit.is_sound(), "{audit:?}");
}

async fn pages(store: &Store) -> u64 {
    let ask = |w: &crate::writer::Writer| w.journal.conn.query_row("PRAGMA page_count", [], |row| row.get(0));
    on_writer(store, ask).await.expect("pages")
}

async fn count(store: &Store) -> usize {
    store.rows(0, 1000, None, None).await.expect("rows").len()
}

/// Deletes state.db and expects that what is made anew is what it was.
async fn expect_rebuilt(dir: &Path, store: Store) -> Store {
    store.close().await;
    let kept = dump(dir);
    std::fs::remove_file(Which::State.file(dir)).expect("remove");
    open(dir).close().await;
    assert_eq!(dump(dir), kept);
    open(dir)
}

#[tokio::test]
async fn what_is_too_old_goes_behind_a_checkpoint_from_which_all_holds() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = lived(dir.path(), 20).await;
    let last = store.append(None, denied(1)).await.expect("append").at_ms;
    let limits = Limits {
        max_bytes: u64::MAX,
        max_age: Duration::from_secs(10),
    };
    let early = store.retain(limits, last + 9_000).await.expect("retain");
    assert_eq!(early, Retained { dropped: 0, from: 0 });
    let held = store.seal().await.expect("seal");
    let run = store.retain(limits, last + 60_000).await.expect("retain");
    assert_eq!(run, Retained { dropped: 24, from: 24 });
    assert_eq!((count(&store).await, store.last_seq(), store.dropped()), (0, 24, 24));

    assert_eq!(store.append(None, denied(2)).await.expect("append").seq, 25);
    expect_sound(&store).await;
    let store = expect_rebuilt(dir.path(), store).await;
    assert_eq!(
        store.agent(&name(0)).await.expect("read").expect("agent").causes.len(),
        1
    );
    assert_eq!(store.verify_chain(0).await, Ok(None));
    let audit = store.audit(vec![held]).await.expect("audit");
    assert_eq!(
        (audit.found, audit.from, audit.last),
        (0, 24, 25),
        "the row it names is the checkpoint's"
    );
    store.close().await;
}

#[tokio::test]
async fn what_is_too_much_goes_and_the_file_stops_growing() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = lived(dir.path(), 400).await;
    let limit = 300_000;
    let run = store.retain(at_most(limit), 0).await.expect("retain");
    assert!(run.dropped > 100 && run.from == run.dropped, "{run:?}");
    let used = on_writer(&store, |w| crate::retain::used(&w.journal.conn))
        .await
        .expect("used");
    assert!(used <= limit, "{used}");
    assert_eq!(
        store.retain(at_most(limit), 0).await.expect("retain").dropped,
        0,
        "not again at once"
    );
    expect_sound(&store).await;

    let before = pages(&store).await;
    for _ in 0..3 {
        for n in 0..100 {
            store.append(None, sized(1000 + n)).await.expect("append");
        }
        store.retain(at_most(limit), 0).await.expect("retain");
    }
    let after = pages(&store).await;
    assert!(after <= before + before / 4, "{before} pages, then {after}");
    let store = expect_rebuilt(dir.path(), store).await;
    expect_sound(&store).await;
    store.close().await;
}

#[tokio::test]
async fn a_crash_at_any_step_of_a_run_loses_nothing() {
    for point in [Point::Condense, Point::Drop] {
        let dir = tempfile::tempdir().expect("dir");
        let (store, faults) = lived(dir.path(), 5).await;
        faults.set(point, true);
        let cut = store.retain(NOTHING, LATER).await;
        assert!(matches!(cut, Err(Error::Full { .. })), "{cut:?}");
        store.close().await;

        let store = open(dir.path());
        let dropped = point == Point::Drop;
        assert_eq!(
            (count(&store).await, store.dropped()),
            if dropped { (0, 8) } else { (8, 0) }
        );
        expect_sound(&store).await;
        let store = expect_rebuilt(dir.path(), store).await;
        // Nothing new is due, and what was left over goes.
        let run = store.retain(at_most(u64::MAX), 0).await.expect("retain");
        assert_eq!(run.dropped, if dropped { 8 } else { 0 });
        let left: u64 = on_writer(&store, |w| {
            w.journal
                .conn
                .query_row("SELECT count(*) FROM journal", [], |r| r.get(0))
        })
        .await
        .expect("count");
        assert_eq!(left, if dropped { 0 } else { 8 });
        expect_sound(&store).await;
        let store = expect_rebuilt(dir.path(), store).await;
        store.close().await;
    }
}

#[tokio::test]
async fn a_crash_while_the_state_is_made_from_the_checkpoint_is_repaired() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = lived(dir.path(), 5).await;
    store.retain(NOTHING, LATER).await.expect("retain");
    store.append(Some(&name(0)), denied(1)).await.expect("append");
    store.close().await;
    let kept = dump(dir.path());
    std::fs::remove_file(Which::State.file(dir.path())).expect("remove");
    let faults = Faults::default();
    faults.set(Point::Restore, true);
    assert!(Store::open_with(dir.path(), "life", faults).is_err());
    open(dir.path()).close().await;
    assert_eq!(dump(dir.path()), kept);
}

#[tokio::test]
async fn what_the_projection_has_not_applied_is_not_dropped() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, faults) = lived(dir.path(), 3).await;
    faults.set(Point::BetweenCommits, true);
    faults.set(Point::CatchUp, true);
    store.append(Some(&name(0)), created(0, 2)).await.expect("journaled");
    assert!(store.retain(NOTHING, LATER).await.is_err());
    assert_eq!((count(&store).await, store.dropped()), (7, 0));
    faults.set(Point::BetweenCommits, false);
    faults.set(Point::CatchUp, false);
    assert_eq!(store.retain(NOTHING, LATER).await.expect("retain").dropped, 7);
    let agent = store.agent(&name(0)).await.expect("read").expect("agent");
    assert_eq!(agent.container, Some(container(2)));
    let store = expect_rebuilt(dir.path(), store).await;
    store.close().await;
}

#[tokio::test]
async fn rows_that_were_tampered_with_are_kept_as_evidence() {
    for (sql, says) in [
        ("UPDATE journal SET cp_life = 'x' WHERE seq = 3", "row 3"),
        ("DELETE FROM journal WHERE seq = 3", "row 3"),
        ("UPDATE heads SET signature = zeroblob(64)", "signed head"),
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let (store, _) = lived(dir.path(), 5).await;
        store.close().await;
        tamper(dir.path(), sql);
        let store = open(dir.path());
        let before = count(&store).await;
        let e = store.retain(NOTHING, LATER).await.expect_err("tampered");
        assert!(
            matches!(&e, Error::Tampered { finding } if finding.contains(says)),
            "{e}"
        );
        assert!(e.to_string().contains("clawker audit verify"), "{e}");
        assert_eq!((count(&store).await, store.dropped()), (before, 0));
        store.close().await;
    }
}

#[tokio::test]
async fn a_checkpoint_that_was_changed_is_found_and_nothing_is_rebuilt_from_it() {
    for sql in [
        "UPDATE checkpoint SET state = replace(state, 'operator:uid:0', 'operator:uid:1')",
        "UPDATE checkpoint SET from_seq = 4",
        "UPDATE checkpoint SET signature = zeroblob(64)",
    ] {
        let dir = tempfile::tempdir().expect("dir");
        let (store, _) = lived(dir.path(), 5).await;
        store.retain(NOTHING, LATER).await.expect("retain");
        store.close().await;
        tamper(dir.path(), sql);
        std::fs::remove_file(Which::State.file(dir.path())).expect("remove");
        let e = Store::open(dir.path(), "life").expect_err("changed");
        assert!(
            matches!(&e, Error::JournalCorrupt { detail, .. } if detail.contains("checkpoint")),
            "{sql}: {e}"
        );
    }
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = lived(dir.path(), 5).await;
    store.retain(NOTHING, LATER).await.expect("retain");
    store.close().await;
    tamper(dir.path(), "UPDATE checkpoint SET state = '{}'");
    let store = open(dir.path());
    let audit = store.audit(vec![]).await.expect("audit");
    assert_eq!(
        audit.findings,
        [Finding::Checkpoint {
            seq: 8,
            why: BadSeal::Forged
        }]
    );
    store.close().await;
}

#[tokio::test]
async fn a_projection_from_before_the_checkpoint_is_made_anew() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, _) = lived(dir.path(), 2).await;
    store.close().await;
    let old = std::fs::read(Which::State.file(dir.path())).expect("read");
    let store = open(dir.path());
    store.append(Some(&name(0)), denied(1)).await.expect("append");
    store.retain(NOTHING, LATER).await.expect("retain");
    store.close().await;
    let kept = dump(dir.path());
    std::fs::write(Which::State.file(dir.path()), old).expect("write");
    let store = open(dir.path());
    assert_eq!(
        store.report().rebuilt,
        Some(crate::Rebuilt::Behind { applied: 5, from: 6 })
    );
    store.close().await;
    assert_eq!(dump(dir.path()), kept);
}

/// Written by an older version, or by one that had more.
#[test]
fn a_checkpoint_of_another_schema_is_taken_by_name() {
    let dir = tempfile::tempdir().expect("dir");
    let state = crate::db::Db::open(dir.path(), Which::State).expect("open");
    state
        .migrate(include_str!("../../schema/state.sql"), 1)
        .expect("tables");
    let checkpoint = |text: &str| Checkpoint {
        from: crate::chain::Head {
            seq: 1,
            hash: [1; 32],
            at_ms: 1,
        },
        at: crate::chain::Head {
            seq: 2,
            hash: [2; 32],
            at_ms: 2,
        },
        state_version: 1,
        state: text.into(),
        key: [0; 32],
        signature: [0; 64],
    };
    let text = r#"{"gone": [{"a": 1}], "agents": [{"name": "clawker.a", "spec": "{}", "run": "r", "container": null,
        "created_ms": 7, "init": "{}", "new_in_the_future": "x"}], "steps": [{"key": "k", "agent": "clawker.a", "seq": 3}]}"#;
    checkpoint(text).restore(&state).expect("restored");
    let row = state
        .conn
        .query_row("SELECT created_ms, start_pid, container FROM agents", [], |row| {
            Ok((
                row.get::<_, i64>(0)?,
                row.get::<_, i64>(1)?,
                row.get::<_, Option<String>>(2)?,
            ))
        });
    assert_eq!(row, Ok((7, 0, None)));
    assert_eq!(crate::projection::applied(&state.conn), Ok(Some((2, [2; 32]))));
    for nonsense in ["", "[]", r#"{"steps": [1]}"#, r#"{"steps": [{"key": "only"}]}"#] {
        let e = checkpoint(nonsense).restore(&state).expect_err(nonsense);
        assert!(e.to_string().contains("checkpoint"), "{e}");
    }
}
