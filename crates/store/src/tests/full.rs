use super::*;
use crate::Error;
use crate::db::Db;

/// Lets the files grow by so many pages at most; `None` lifts the limit.
pub(super) async fn limit(store: &Store, which: Which, more: Option<i64>) {
    on_writer(store, move |w| {
        let db: &Db = if which == Which::Journal { &w.journal } else { &w.state };
        let pages: i64 = db
            .conn
            .query_row("PRAGMA page_count", [], |row| row.get(0))
            .expect("pages");
        let limit = more.map_or(1 << 30, |more| pages + more);
        db.conn
            .query_row(&format!("PRAGMA max_page_count = {limit}"), [], |row| {
                row.get::<_, i64>(0)
            })
            .expect("limit");
    })
    .await;
}

#[tokio::test]
async fn a_full_disk_refuses_a_row_whole_and_works_again_with_room() {
    for which in [Which::Journal, Which::State] {
        let dir = tempfile::tempdir().expect("dir");
        let store = open(dir.path());
        let agent = name(0);
        store
            .append(Some(&agent), decided(&"s".repeat(10), None))
            .await
            .expect("append");
        let mut bus = store.subscribe();
        limit(&store, which, Some(4)).await;

        let e = store
            .append(Some(&agent), decided(&"s".repeat(100_000), None))
            .await
            .expect_err("full");
        assert!(
            matches!(&e, Error::Full { file, .. } if *file == which.file(dir.path())),
            "{e}"
        );
        assert_eq!(store.last_seq(), 1);
        assert_eq!(store.rows(0, 10, None, None).await.expect("rows").len(), 1);
        assert_eq!(store.policy_state("p", &code(), &agent).await.expect("state").len(), 10);

        limit(&store, which, None).await;
        let row = store
            .append(Some(&agent), decided(&"s".repeat(100_000), None))
            .await
            .expect("room");
        assert_eq!(row.seq, 2);
        assert_eq!(
            bus.recv().await.expect("broadcast").seq,
            2,
            "the refused row was never broadcast"
        );
        assert_eq!(
            store.policy_state("p", &code(), &agent).await.expect("state").len(),
            100_000
        );
        assert_eq!(store.verify_chain(0).await.expect("verify"), None);
        store.close().await;
    }
}

#[tokio::test]
async fn a_row_that_does_not_fit_takes_no_other_along() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    store.append(None, denied(0)).await.expect("append");
    limit(&store, Which::Journal, Some(8)).await;
    // Hold the writer until all three are queued, so that they are one batch.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let held = on_writer(&store, move |_| wait.recv());
    let appends = async {
        tokio::join!(
            store.append(None, denied(1)),
            store.append(None, sized(1 << 20)),
            store.append(None, denied(2)),
            async { go.send(()).expect("go") },
        )
    };
    let (released, (one, large, two, ())) = tokio::join!(held, appends);
    released.expect("released");
    assert_eq!(one.expect("fits").seq, 2);
    assert!(matches!(large, Err(Error::Full { .. })), "{large:?}");
    assert_eq!(two.expect("fits").seq, 3);
    assert_eq!(store.verify_chain(0).await.expect("verify"), None);
    store.close().await;
}
