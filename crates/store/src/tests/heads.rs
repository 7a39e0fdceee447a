//! Signed heads, and what an audit finds with them.

use proptest::prelude::*;

use super::*;
use crate::chain::{GENESIS, Hash, Link, hex};
use crate::faults::Point;
use crate::head::SignedHead;
use crate::{Audit, BadSeal, Finding};

async fn grow(store: &Store, rows: u64) {
    for n in 0..rows {
        store.append(Some(&name(0)), denied(n)).await.expect("append");
    }
}

async fn sealed(store: &Store) -> Vec<u64> {
    let heads = store.heads(0).await.expect("heads");
    heads.into_iter().map(|(_, head)| head.seq).collect()
}

async fn audit_of(dir: &Path, held: Vec<SignedHead>) -> Audit {
    let store = open(dir);
    let audit = store.audit(held).await.expect("audit");
    store.close().await;
    audit
}

fn bad_head(seq: u64, why: BadSeal) -> Finding {
    Finding::Head { seq, why }
}

#[tokio::test]
async fn the_end_is_signed_once_when_asked_and_at_a_close() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    grow(&store, 3).await;
    let head = store.seal().await.expect("seal");
    assert_eq!((head.seq, head.journal.as_str()), (3, store.journal_id()));
    assert_eq!(head.hash, store.cursor(3).await.expect("cursor").expect("row").hash);
    assert_eq!(store.seal().await, Ok(head.clone()));
    assert_eq!(sealed(&store).await, [3]);
    grow(&store, 1).await;
    store.close().await;
    let store = open(dir.path());
    assert_eq!(sealed(&store).await, [3, 4]);
    assert_eq!(store.seal().await.expect("seal").seq, 4);
    let audit = store.audit(vec![head]).await.expect("audit");
    assert!(audit.is_sound(), "{audit:?}");
    assert_eq!((audit.from, audit.last, audit.heads), (0, 4, 3));
    store.close().await;
}

#[tokio::test]
async fn the_end_is_signed_every_thousand_rows() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..2600 {
        let store = store.clone();
        tasks.spawn(async move { store.append(None, denied(n)).await.expect("append") });
    }
    tasks.join_all().await;
    // Asked on the writer, behind all that was queued.
    let id = store.journal_id().to_owned();
    let heads = on_writer(&store, move |w| crate::head::after(&w.journal.conn, &id, 0, 10))
        .await
        .expect("heads");
    let seqs: Vec<u64> = heads.iter().map(|kept| kept.seq).collect();
    assert_eq!(seqs.len(), 2, "{seqs:?}");
    // A batch isn't cut for a head, so it may come up to 256 rows late.
    assert!(
        (1000..1256).contains(&seqs[0]) && (seqs[0] + 1000..seqs[0] + 1256).contains(&seqs[1]),
        "{seqs:?}"
    );
    store.close().await;
}

#[tokio::test]
async fn a_head_that_cannot_be_written_keeps_no_row_from_the_journal() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, faults) = open_faulty(dir.path());
    faults.set(Point::Head, true);
    grow(&store, 2).await;
    assert!(matches!(store.seal().await, Err(crate::Error::Full { .. })));
    faults.set(Point::Head, false);
    grow(&store, 1).await;
    assert_eq!(store.seal().await.expect("seal").seq, 3);
    store.close().await;
}

#[tokio::test]
async fn truncation_is_found_by_the_last_head_here_or_held_elsewhere() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    grow(&store, 10).await;
    let held = store.seal().await.expect("seal");
    store.close().await;

    tamper(dir.path(), "DELETE FROM journal WHERE seq > 7");
    let store = open(dir.path());
    assert_eq!(
        (store.report().last_seq, store.report().cut),
        (7, Some(10)),
        "noticed at once"
    );
    let audit = store.audit(vec![]).await.expect("audit");
    assert_eq!(audit.findings, [bad_head(10, BadSeal::Cut { last: 7 })]);
    // Written on, the old head is the witness of another row 10.
    grow(&store, 5).await;
    store.close().await;
    assert_eq!(
        audit_of(dir.path(), vec![]).await.findings,
        [bad_head(10, BadSeal::OtherRow)]
    );

    // With its witnesses gone the folder alone shows nothing, and the head that was handed out does.
    tamper(dir.path(), "DELETE FROM heads WHERE seq < 12");
    assert!(audit_of(dir.path(), vec![]).await.is_sound());
    assert_eq!(
        audit_of(dir.path(), vec![held]).await.findings,
        [bad_head(10, BadSeal::OtherRow)]
    );
}

#[tokio::test]
async fn a_head_is_believed_only_as_it_was_signed_by_this_host_of_this_journal() {
    let (dir, other) = (tempfile::tempdir().expect("dir"), tempfile::tempdir().expect("dir"));
    let (store, stranger) = (open(dir.path()), open(other.path()));
    grow(&store, 2).await;
    grow(&stranger, 2).await;
    let head = store.seal().await.expect("seal");
    let of_another = stranger.seal().await.expect("seal");
    let changed = |change: fn(&mut SignedHead)| {
        let mut changed = head.clone();
        change(&mut changed);
        changed
    };
    let (forged, cases) = (
        BadSeal::Forged,
        [
            changed(|h| h.seq = 1),
            changed(|h| h.at_ms += 1),
            changed(|h| h.hash = "0".repeat(64)),
            changed(|h| h.journal = "0".repeat(32)),
            changed(|h| h.signature = "0".repeat(128)),
            changed(|h| h.key = "0".repeat(64)),
            changed(|h| h.hash = "short".into()),
            changed(|h| h.signature = String::new()),
        ],
    );
    for case in cases {
        let audit = store.audit(vec![case.clone()]).await.expect("audit");
        assert_eq!(audit.findings, [bad_head(case.seq, forged)], "{case:?}");
    }
    let audit = store.audit(vec![of_another]).await.expect("audit");
    assert_eq!(audit.findings, [bad_head(2, BadSeal::OtherJournal)]);
    stranger.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_lost_host_key_is_said_and_what_it_signed_is_a_strangers() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    assert!(!store.report().key_lost, "the first start makes one");
    grow(&store, 2).await;
    store.close().await;
    std::fs::remove_file(dir.path().join("host.key")).expect("remove");
    let store = open(dir.path());
    assert!(store.report().key_lost);
    grow(&store, 1).await;
    store.seal().await.expect("seal");
    let audit = store.audit(vec![]).await.expect("audit");
    assert_eq!(audit.findings, [bad_head(2, BadSeal::Stranger)]);
    store.close().await;
}

#[tokio::test]
async fn findings_are_capped_and_all_are_counted() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let total = crate::MAX_FINDINGS as u64 + 5;
    for _ in 0..total {
        grow(&store, 1).await;
        store.seal().await.expect("seal");
    }
    store.close().await;
    tamper(dir.path(), "UPDATE heads SET signature = zeroblob(64)");
    let audit = audit_of(dir.path(), vec![]).await;
    assert_eq!((audit.findings.len(), audit.found), (crate::MAX_FINDINGS, total));
    // Blobs of a wrong length are no more than forged.
    tamper(
        dir.path(),
        "UPDATE heads SET signature = x'00', key = x'', hash = x'ff'",
    );
    assert_eq!(audit_of(dir.path(), vec![]).await.found, total);
}

/// An exported line has all that the hash covers, byte by byte.
#[tokio::test]
async fn an_exported_row_can_be_verified_by_itself() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    grow(&store, 2).await;
    store.append(None, creating(1)).await.expect("append");
    let mut prev: Hash = GENESIS;
    for (seq, line) in store.export(0, 10).await.expect("export") {
        let row: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
        prev = Link {
            prev: &prev,
            seq: row["seq"].as_u64().expect("seq"),
            at_ms: row["at_ms"].as_u64().expect("time"),
            cp_life: &text("cp_life"),
            kind: &text("kind"),
            agent: row["agent"].as_str(),
            body: &text("body"),
        }
        .hash();
        assert_eq!((row["seq"].as_u64(), text("hash")), (Some(seq), hex(&prev)));
        assert_eq!(
            text("cursor"),
            store.cursor(seq).await.expect("cursor").expect("row").to_string()
        );
    }
    store.close().await;
}

#[derive(Debug, Clone)]
enum Tampering {
    Changed {
        row: u64,
        set: &'static str,
    },
    Missing {
        row: u64,
    },
    Swapped {
        row: u64,
        with: u64,
    },
    Cut {
        after: u64,
    },
    /// Changed, and everything from there on made to fit.
    Rewritten {
        row: u64,
    },
}

const ROWS: u64 = 12;

fn tampering() -> impl Strategy<Value = Tampering> {
    let set = prop_oneof![
        Just("at_ms = at_ms + 1"),
        Just("cp_life = cp_life || 'x'"),
        Just("kind = 'ContainerOom'"),
        Just("agent = 'clawker.zz'"),
        Just("agent = NULL"),
        Just("body = body || ' '"),
        Just("hash = zeroblob(32)"),
        Just("prev_hash = x'11'"),
    ];
    prop_oneof![
        (1..=ROWS, set).prop_map(|(row, set)| Tampering::Changed { row, set }),
        (1..=ROWS).prop_map(|row| Tampering::Missing { row }),
        (1..ROWS, 1..ROWS).prop_map(|(row, by)| {
            let with = row + 1 + (by - 1) % (ROWS - row);
            Tampering::Swapped { row, with }
        }),
        (0..ROWS).prop_map(|after| Tampering::Cut { after }),
        (1..=ROWS).prop_map(|row| Tampering::Rewritten { row }),
    ]
}

fn carry_out(dir: &Path, tampering: &Tampering) {
    match tampering {
        Tampering::Changed { row, set } => tamper(dir, &format!("UPDATE journal SET {set} WHERE seq = {row}")),
        Tampering::Missing { row } => tamper(dir, &format!("DELETE FROM journal WHERE seq = {row}")),
        Tampering::Swapped { row, with } => tamper(
            dir,
            &format!(
                "UPDATE journal SET seq = 999 WHERE seq = {row}; UPDATE journal SET seq = {row} WHERE seq = {with};
                 UPDATE journal SET seq = {with} WHERE seq = 999"
            ),
        ),
        Tampering::Cut { after } => tamper(dir, &format!("DELETE FROM journal WHERE seq > {after}")),
        Tampering::Rewritten { row } => {
            let db = crate::db::Db::open(dir, Which::Journal).expect("open");
            let mut prev = crate::journal::hash_of(&db.conn, row - 1).expect("hash").expect("row");
            for mut raw in crate::journal::raw(&db, row - 1, 1000, None).expect("rows") {
                if raw.seq == *row {
                    raw.body = r#"{"count":7,"total":7}"#.into();
                }
                raw.prev_hash = prev.to_vec();
                prev = raw.expected_hash();
                let sql = "UPDATE journal SET body = ?2, prev_hash = ?3, hash = ?4 WHERE seq = ?1";
                let values = rusqlite::params![raw.seq, raw.body, raw.prev_hash, prev];
                db.conn.execute(sql, values).expect("rewritten");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever was done to the rows, with or without the heads in the folder, and whether or not it was opened again and
    /// written on: with the head that was handed out it is found.
    #[test]
    fn any_tampering_is_found(tampering in tampering(), heads_too: bool, written_on: bool) {
        let dir = tempfile::tempdir().expect("dir");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        let found = runtime.block_on(async {
            let store = open(dir.path());
            grow(&store, ROWS / 2).await;
            store.seal().await.expect("seal");
            grow(&store, ROWS / 2).await;
            let held = store.seal().await.expect("seal");
            store.close().await;
            carry_out(dir.path(), &tampering);
            if heads_too {
                tamper(dir.path(), "DELETE FROM heads");
            }
            // The projection would only be in the way of rows that can't be read.
            if written_on && let Ok(store) = Store::open(dir.path(), "life-2") {
                grow(&store, 3).await;
                store.close().await;
            }
            match Store::open(dir.path(), "life-3") {
                Ok(store) => {
                    let audit = store.audit(vec![held]).await.expect("audit");
                    store.close().await;
                    audit.found
                }
                // A row that is nonsense now is named when the projection is made anew.
                Err(crate::Error::Unreadable { .. }) => 1,
                Err(e) => panic!("{e}"),
            }
        });
        prop_assert!(found > 0, "{tampering:?} was not found");
    }
}
