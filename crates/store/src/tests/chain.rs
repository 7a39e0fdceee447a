use super::*;
use crate::record::{BadRow, Broken};

/// A journal of ten rows, changed by `sql`, and what verify says.
async fn verify_after(sql: &str, after: u64) -> Option<BadRow> {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    for n in 0..10 {
        store.append(Some(&name(0)), denied(n)).await.expect("append");
    }
    store.close().await;
    tamper(dir.path(), sql);
    let store = open(dir.path());
    let found = store.verify_chain(after).await.expect("verify");
    store.close().await;
    found
}

fn bad(seq: u64, why: Broken) -> Option<BadRow> {
    Some(BadRow { seq, why })
}

#[tokio::test]
async fn what_nobody_touched_verifies() {
    for after in [0, 1, 9, 10] {
        assert_eq!(verify_after("", after).await, None);
    }
}

#[tokio::test]
async fn a_changed_field_is_found() {
    for set in [
        "at_ms = at_ms + 1",
        "cp_life = 'x'",
        "kind = 'ContainerOom'",
        "agent = NULL",
        "agent = 'clawker.b'",
        "body = '{\"count\":1,\"total\":99}'",
        "hash = zeroblob(32)",
        "prev_hash = zeroblob(32)",
    ] {
        let found = verify_after(&format!("UPDATE journal SET {set} WHERE seq = 5"), 0).await;
        assert_eq!(found, bad(5, Broken::Changed), "{set}");
    }
}

#[tokio::test]
async fn a_missing_row_is_found() {
    assert_eq!(
        verify_after("DELETE FROM journal WHERE seq = 5", 0).await,
        bad(5, Broken::Missing)
    );
    assert_eq!(
        verify_after("DELETE FROM journal WHERE seq = 1", 0).await,
        bad(1, Broken::Missing)
    );
    assert_eq!(
        verify_after("DELETE FROM journal WHERE seq = 5", 5).await,
        bad(5, Broken::Missing)
    );
}

#[tokio::test]
async fn rows_that_changed_places_are_found() {
    let swap = "UPDATE journal SET seq = 99 WHERE seq = 4; UPDATE journal SET seq = 4 WHERE seq = 5; \
                UPDATE journal SET seq = 5 WHERE seq = 99;";
    assert_eq!(verify_after(swap, 0).await, bad(4, Broken::Changed));
}

#[tokio::test]
async fn a_row_with_a_hash_made_to_fit_breaks_the_next_one() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    for n in 0..3 {
        store.append(None, denied(n)).await.expect("append");
    }
    let mut row = on_writer(&store, |w| crate::journal::raw(&w.journal, 1, 1, None))
        .await
        .expect("raw")
        .remove(0);
    row.body = r#"{"count":1,"total":99}"#.into();
    let (body, hash) = (row.body.clone(), crate::chain::hex(&row.expected_hash()));
    store.close().await;
    tamper(
        dir.path(),
        &format!("UPDATE journal SET body = '{body}', hash = x'{hash}' WHERE seq = 2"),
    );
    let store = open(dir.path());
    assert_eq!(store.verify_chain(0).await.expect("verify"), bad(3, Broken::Unchained));
    store.close().await;
}

#[tokio::test]
async fn a_tail_cut_off_while_we_run_is_found() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    for n in 0..10 {
        store.append(None, denied(n)).await.expect("append");
    }
    on_writer(&store, |w| {
        w.journal.conn.execute("DELETE FROM journal WHERE seq > 7", [])
    })
    .await
    .expect("cut");
    assert_eq!(store.verify_chain(0).await.expect("verify"), bad(8, Broken::Missing));
    store.close().await;
}

#[tokio::test]
async fn a_cursor_names_journal_and_hash() {
    let (one, two) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (one, two) = (open(one.path()), open(two.path()));
    one.append(None, denied(1)).await.expect("append");
    let before = one.cursor(0).await.expect("cursor").expect("row 0");
    let first = one.cursor(1).await.expect("cursor").expect("row 1");
    assert_eq!(before.hash, "0".repeat(64));
    assert_ne!(first.hash, before.hash);
    assert_eq!(one.cursor(2).await.expect("cursor"), None);
    assert_ne!(one.journal_id(), two.journal_id());
    one.close().await;
    two.close().await;
}
