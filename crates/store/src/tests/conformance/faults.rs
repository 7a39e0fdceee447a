//! Sentences on what the store alone can meet: disks, damage, restarts, races.

use clawker_model::event::SessionConnected;

use super::*;
use crate::Error;
use crate::tests::full::limit;

/// "Returns an error … when the persistence layer (sqlite) rejects the write — disk full": nothing is half done.
#[tokio::test]
async fn add_returns_an_error_when_the_disk_is_full() {
    for which in [Which::Journal, Which::State] {
        let dir = tempfile::tempdir().expect("dir");
        let store = open(dir.path());
        add(&store, 1, "p", "a", 1).await;
        limit(&store, which, Some(0)).await;
        let full = async {
            for n in 2.. {
                if let Err(e) = store.add(candidate(n, "p", &format!("b{n}"), 1, n)).await {
                    return (n, e);
                }
            }
            unreachable!()
        };
        let (n, e) = full.await;
        assert!(
            matches!(&e, Error::Full { file, .. } if *file == which.file(dir.path())),
            "{e}"
        );
        assert_eq!(store.lookup_by_container(&container(n)).await, Err(Error::UnknownAgent));
        limit(&store, which, None).await;
        add(&store, n, "p", "b", n).await;
        store.close().await;
    }
}

/// "… schema corruption": an error that names the file, no panic, and the next start makes the table anew.
#[tokio::test]
async fn add_returns_an_error_when_the_schema_is_damaged() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let entry = add(&store, 1, "p", "a", 1).await;
    on_writer(&store, |w| w.state.conn.execute_batch("DROP TABLE registry"))
        .await
        .expect("dropped");
    let refused = store.add(candidate(2, "p", "b", 1, 2)).await.expect_err("no table");
    assert!(
        !refused.is_refusal() && refused.to_string().contains("state.db"),
        "{refused}"
    );
    store.close().await;
    std::fs::remove_file(Which::State.file(dir.path())).expect("remove");
    let store = open(dir.path());
    assert_eq!(store.snapshot().await, Ok(vec![entry]));
    store.close().await;
}

/// "Returns the underlying persistence error so callers can decide whether to retry, log, or abort." and "… callers
/// log-and-proceed because a transient sqlite failure must not stall the eviction pipeline …; the row gets pruned
/// later": the failure leaves the row whole, and a later eviction takes it.
#[tokio::test]
async fn evict_returns_the_persistence_error_and_a_later_one_prunes_the_row() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let entry = add(&store, 1, "p", "a", 1).await;
    limit(&store, Which::Journal, Some(0)).await;
    let long = "x".repeat(100_000);
    let e = store.evict_by_container(&container(1), &long).await.expect_err("full");
    assert!(matches!(e, Error::Full { .. }), "{e}");
    assert_eq!(store.snapshot().await, Ok(vec![entry]));
    limit(&store, Which::Journal, None).await;
    store
        .evict_by_container(&container(1), "reconciled")
        .await
        .expect("evicted");
    assert_eq!(store.snapshot().await, Ok(vec![]));
    store.close().await;
}

/// Ours: that an agent was seen costs no journal row; a restart knows when it registered or connected.
#[tokio::test]
async fn last_seen_costs_no_row_and_survives_as_the_last_connection() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let cn = add(&store, 1, "p", "a", 1).await.row.name;
    let connected = SessionConnected {
        address: "unix:x".into(),
        attempts: 1,
        peer_cn: cn.to_string(),
        thumbprint: None,
        start: 1,
        init_life: "x".into(),
    };
    let row = store.append(Some(&cn), connected).await.expect("append");
    store.seen(&container(1), row.at_ms + 1000);
    assert_eq!(store.last_seq(), row.seq);
    store.close().await;
    let store = open(dir.path());
    let found = store.lookup_by_container(&container(1)).await.expect("found");
    assert_eq!(found.last_seen_ms, row.at_ms);
    store.close().await;
}

/// Ours: two that race for one container can't both win, whatever each saw when it looked.
#[tokio::test]
async fn of_two_adds_at_once_the_newer_generation_stands() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for generation in 1..=16 {
        let store = store.clone();
        tasks.spawn(async move { store.add(candidate(1, "p", "a", generation, generation as usize)).await });
    }
    for ended in tasks.join_all().await {
        assert!(
            matches!(ended, Ok(_) | Err(Error::GenerationReplayed { .. })),
            "{ended:?}"
        );
    }
    let rows = store.snapshot().await.expect("snapshot");
    assert_eq!((rows.len(), rows[0].row.generation), (1, 16));
    store.close().await;
}
