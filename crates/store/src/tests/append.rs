use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;

use super::*;
use crate::{Error, MAX_BODY, MAX_ROWS};

#[tokio::test]
async fn an_appended_row_is_broadcast_and_read_back() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut bus = store.subscribe();
    let row = store.append(Some(&name(0)), denied(1)).await.expect("append");
    assert_eq!((row.seq, row.cp_life.as_str()), (1, "life-1"));
    assert_eq!(bus.recv().await.expect("broadcast"), row);
    assert_eq!(store.rows(0, 10, None, None).await.expect("rows"), [(*row).clone()]);
    assert_eq!(store.last_seq(), 1);
    store.close().await;
}

#[tokio::test]
async fn every_kind_of_body_survives_the_way_through_the_file() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let odd = clawker_model::event::OperatorCommand {
        by: "\"},{\"kind\":\"x\u{0}\n".into(),
        command: "é✓\u{10ffff}".into(),
        detail: "}}\\".into(),
    };
    for event in [creating(0), created(0, 1), odd.clone().into(), denied(u64::MAX)] {
        let row = store.append(None, event).await.expect("append");
        assert_eq!(
            store.rows(row.seq - 1, 1, None, None).await.expect("rows"),
            [(*row).clone()]
        );
    }
    store.close().await;
}

#[tokio::test]
async fn concurrent_appends_have_no_gap_and_the_bus_keeps_their_order() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut bus = store.subscribe();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for i in 0..50 {
                store.append(Some(&name(n)), denied(i)).await.expect("append");
            }
        });
    }
    tasks.join_all().await;
    for seq in 1..=400 {
        assert_eq!(bus.recv().await.expect("broadcast").seq, seq);
    }
    assert_eq!(store.verify_chain(0).await.expect("verify"), None);
    store.close().await;
}

#[tokio::test]
async fn a_subscriber_that_is_late_is_told_so() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut bus = store.subscribe();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            for i in 0..(crate::BUS as u64 / 64 + 1) {
                store.append(None, denied(i)).await.expect("append");
            }
        });
    }
    tasks.join_all().await;
    assert!(
        matches!(bus.recv().await, Err(RecvError::Lagged(64))),
        "4,160 rows, 4,096 places"
    );
    store.close().await;
}

#[tokio::test]
async fn rows_are_chosen_by_seq_agent_and_time() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut times = Vec::new();
    for n in 0..20 {
        let row = store.append((n % 2 == 0).then(|| name(0)).as_ref(), denied(n)).await;
        times.push(row.expect("append").at_ms);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let seqs = async |after, limit, agent: Option<&FullName>, since| -> Vec<u64> {
        let rows = store.rows(after, limit, agent, since).await.expect("rows");
        rows.iter().map(|row| row.seq).collect()
    };
    assert_eq!(seqs(3, 2, None, None).await, [4, 5]);
    assert_eq!(seqs(3, 2, Some(&name(0)), None).await, [5, 7]);
    assert_eq!(seqs(0, 2, Some(&name(1)), None).await, [0; 0]);
    assert_eq!(seqs(20, 2, None, None).await, [0; 0]);
    assert_eq!(seqs(u64::MAX, 2, None, None).await, [0; 0]);
    for (index, time) in times.iter().enumerate() {
        let first = times.iter().position(|t| t >= time).expect("itself") as u64 + 1;
        assert_eq!(seqs(0, 1, None, Some(*time)).await, [first], "since row {}", index + 1);
    }
    assert_eq!(seqs(0, 1000, None, Some(times[19] + 1)).await, [0; 0]);
    assert_eq!(seqs(0, 1000, None, Some(0)).await.len(), 20);
    assert_eq!(seqs(0, 1000, None, Some(u64::MAX)).await, [0; 0]);
    store.close().await;
}

#[tokio::test]
async fn an_answer_is_capped_by_rows_and_by_bytes() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..1001 {
        let store = store.clone();
        tasks.spawn(async move { store.append(None, denied(n)).await.expect("append") });
    }
    tasks.join_all().await;
    let all = store.rows(0, u32::MAX, None, None).await.expect("rows");
    assert_eq!(all.len(), MAX_ROWS as usize);
    for _ in 0..3 {
        store.append(None, sized(5 << 20)).await.expect("append");
    }
    let large = store.rows(1001, 1000, None, None).await.expect("rows");
    assert_eq!(large.len(), 1, "5 MiB and 5 MiB are more than 8");
    store.close().await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let e = store.append(None, sized(MAX_BODY)).await.expect_err("too large");
    assert!(
        matches!(
            e,
            Error::TooLarge {
                kind: "OperatorCommand",
                limit: MAX_BODY,
                ..
            }
        ),
        "{e}"
    );
    assert_eq!(store.last_seq(), 0);
    store.append(None, sized(MAX_BODY - 100)).await.expect("just below");
    store.close().await;
}

#[tokio::test]
async fn a_synced_append_waits_for_its_seq() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, faults) = open_faulty(dir.path());
    let row = store.append_synced(None, denied(1)).await.expect("append");
    assert!(*store.synced().borrow() >= row.seq);

    faults.set(crate::faults::Point::Sync, true);
    let e = store.append_synced(None, denied(2)).await.expect_err("syncing fails");
    assert!(matches!(e, Error::Io { doing: "syncing", .. }), "{e}");
    assert_eq!(store.last_seq(), 2, "the row is journaled all the same");

    // The checkpoint syncs what fdatasync couldn't, and later rows wait for nothing that has failed.
    let mut synced = store.synced();
    let wait = synced.wait_for(|seq| *seq >= 2);
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("in time")
        .expect("synced");
    faults.set(crate::faults::Point::Sync, false);
    store.append_synced(None, denied(3)).await.expect("append");
    store.close().await;
}

#[tokio::test]
async fn closing_keeps_what_was_queued_and_refuses_the_rest() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let other = store.clone();
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..50 {
        let store = store.clone();
        tasks.spawn(async move { store.append(None, denied(n)).await });
    }
    tokio::task::yield_now().await;
    store.close().await;
    let kept = tasks
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::ok)
        .map(|row| row.seq)
        .max();
    assert_eq!(other.append(None, denied(0)).await, Err(Error::Closed));
    assert_eq!(other.agents().await, Err(Error::Closed));
    let again = open(dir.path());
    assert_eq!(again.last_seq(), kept.unwrap_or(0));
    again.close().await;
}

#[tokio::test]
async fn the_wal_stays_small_under_load_and_reads() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let store = store.clone();
        tasks.spawn(async move {
            for _ in 0..200 {
                let row = store.append(None, sized(8 << 10)).await.expect("append");
                store.rows(row.seq - 1, 5, None, None).await.expect("rows");
            }
        });
    }
    tasks.join_all().await;
    let wal = std::fs::metadata(dir.path().join("journal.db-wal")).expect("wal").len();
    assert!(wal <= 16 << 20, "25 MiB of rows left a WAL of {wal} bytes");
    store.close().await;
}

#[tokio::test]
async fn times_never_fall() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let first = store.append(None, denied(1)).await.expect("append");
    store.close().await;
    let future = first.at_ms + 1_000_000;
    // As if the clock had been ahead; the row's hash no longer fits, which isn't the point here.
    tamper(dir.path(), &format!("UPDATE journal SET at_ms = {future}"));
    let store = open(dir.path());
    let second: Arc<_> = store.append(None, denied(2)).await.expect("append");
    assert_eq!(second.at_ms, future);
    store.close().await;
}
