//! Places in a journal, and a copy of it.

use super::retention::{LATER, NOTHING, lived};
use super::*;
use crate::ResyncReason;

#[tokio::test]
async fn a_cursor_goes_on_or_says_why_not() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (store, _) = lived(dir.path(), 5).await;
    let stranger = open(other.path());
    let foreign = stranger.cursor(0).await.expect("cursor").expect("place");
    stranger.close().await;
    let at = async |seq| store.cursor(seq).await.expect("cursor").expect("place");
    let why = async |cursor| {
        store
            .resync(&cursor)
            .await
            .expect("resync")
            .map(|r| (r.reason, r.from.seq))
    };

    for seq in [0, 1, 8] {
        assert_eq!(why(at(seq).await).await, None);
    }
    let mut ahead = at(8).await;
    ahead.seq = 9;
    let mut changed = at(7).await;
    changed.hash = "0".repeat(64);
    assert_eq!(why(foreign).await, Some((ResyncReason::OtherJournal, 0)));
    assert_eq!(why(ahead).await, Some((ResyncReason::Ahead, 0)));
    assert_eq!(why(changed).await, Some((ResyncReason::OtherHistory, 0)));

    let (first, last) = (at(1).await, at(8).await);
    store.retain(NOTHING, LATER).await.expect("retain");
    store.append(None, denied(1)).await.expect("append");
    assert_eq!(why(first).await, Some((ResyncReason::Dropped, 8)));
    assert_eq!(
        why(last.clone()).await,
        None,
        "the last that was dropped is the place before all"
    );
    assert_eq!(store.oldest().await, Ok(last));
    assert_eq!(store.cursor(3).await, Ok(None));
    let rows = store.placed_rows(0, 10, None, None).await.expect("rows");
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].cursor, at(9).await);
    assert_eq!(
        store
            .rows(0, 10, None, Some(rows[0].row.at_ms))
            .await
            .expect("rows")
            .len(),
        1
    );
    store.close().await;
}

#[tokio::test]
async fn a_backup_is_one_moment_of_the_journal_and_opens_as_it() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, copy) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (store, _) = lived(dir.path(), 5).await;
    let file = Which::Journal.file(copy.path());
    let (writing, done) = (
        store.clone(),
        std::sync::Arc::<std::sync::atomic::AtomicBool>::default(),
    );
    let stop = done.clone();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(async move {
        for n in 0.. {
            writing.append(None, denied(n)).await.expect("append");
            if stop.load(std::sync::atomic::Ordering::Relaxed) {
                break;
            }
        }
    });
    let head = store.backup(&file).await.expect("backup");
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    tasks.join_all().await;
    assert!(store.backup(&file).await.is_err(), "a file that is there is kept");
    assert_eq!(
        std::fs::metadata(&file).expect("metadata").permissions().mode() & 0o777,
        0o600
    );
    store.close().await;
    assert_eq!(std::fs::read_dir(copy.path()).expect("files").count(), 1, "one file");

    std::fs::copy(dir.path().join("host.key"), copy.path().join("host.key")).expect("copy");
    let restored = open(copy.path());
    assert!(restored.last_seq() >= head.seq && head.seq >= 8);
    let audit = restored.audit(vec![head]).await.expect("audit");
    assert!(audit.is_sound(), "{audit:?}");
    assert!(restored.agent(&name(0)).await.expect("read").is_some());
    restored.close().await;
}
