//! From a store that runs to an archive and back, and what is refused on the way.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clawker_model::event::LeaseLost;
use clawker_store::Store;
use tempfile::TempDir;

use super::*;

/// A state folder with some rows, its store open.
async fn host() -> (TempDir, Store) {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::create_dir(dir.path().join("ca")).expect("ca");
    std::fs::write(dir.path().join("ca/key.pem"), "the key").expect("write");
    std::fs::write(dir.path().join("ca/root.der"), [1, 2, 3]).expect("write");
    std::fs::create_dir(dir.path().join("secrets")).expect("secrets");
    std::fs::write(dir.path().join("secrets/token"), "hush").expect("write");
    let store = Store::open(dir.path(), "life").expect("store");
    grow(&store, 5).await;
    (dir, store)
}

async fn grow(store: &Store, rows: u32) {
    for seconds in 0..rows {
        let lost = LeaseLost {
            seconds,
            then: Default::default(),
        };
        store.append(None, lost).await.expect("append");
    }
}

async fn archived(store: &Store, dir: &Path) -> Vec<u8> {
    let mut files = Files::collect(store, dir, 77).await.expect("collected");
    let mut out = Vec::new();
    write(&mut files, &mut out).expect("written");
    drop(files);
    assert!(!dir.join("backup.tmp").exists(), "the copy goes with it");
    out
}

fn file(dir: &TempDir, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join("backup.tar");
    std::fs::write(&path, bytes).expect("write");
    path
}

#[tokio::test]
async fn a_backup_of_a_running_host_becomes_the_state_of_another() {
    let (dir, store) = host().await;
    let id = store.journal_id().to_owned();
    let bytes = archived(&store, dir.path()).await;
    assert!(!bytes.windows(4).any(|w| w == b"hush"), "secrets stay where they are");
    store.close().await;

    let elsewhere = tempfile::tempdir().expect("dir");
    let backup = file(&elsewhere, &bytes);
    let state = elsewhere.path().join("state");
    let restored = restore(&backup, &state, false, 1).await.expect("restored");
    assert_eq!(
        (restored.journal.as_str(), restored.rows, restored.made_ms),
        (id.as_str(), 5, 77)
    );
    assert_eq!(restored.replaced, None);
    let mut names: Vec<_> = std::fs::read_dir(&state)
        .expect("state")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert_eq!(names, ["ca", "host.key", "journal.db", "lock", "state.db"]);
    assert_eq!(
        std::fs::read_to_string(state.join("ca/key.pem")).expect("key"),
        "the key"
    );
    for name in ["ca/key.pem", "ca/root.der", "host.key", "journal.db"] {
        let mode = std::fs::metadata(state.join(name)).expect(name).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let store = Store::open(&state, "life-2").expect("store");
    assert!(store.audit(vec![]).await.expect("audit").is_sound());
    assert!(!store.report().key_lost);
    store.close().await;
}

#[tokio::test]
async fn a_running_control_plane_and_a_state_that_is_there_are_left_alone() {
    let (dir, store) = host().await;
    let backup = file(&dir, &archived(&store, dir.path()).await);
    for force in [false, true] {
        let refused = restore(&backup, dir.path(), force, 1).await.expect_err("it runs");
        assert!(matches!(refused, RestoreError::Running { .. }), "{refused}");
        assert!(refused.to_string().contains("clawker down"), "{refused}");
    }
    grow(&store, 2).await;
    store.close().await;
    let refused = restore(&backup, dir.path(), false, 1)
        .await
        .expect_err("a state is there");
    assert!(matches!(refused, RestoreError::Exists { .. }), "{refused}");
    assert!(refused.to_string().contains("--force"), "{refused}");

    // By force it is moved, not deleted, and what isn't the backup's stays.
    let restored = restore(&backup, dir.path(), true, 9).await.expect("restored");
    let aside = dir.path().join("replaced-9");
    assert_eq!(restored.replaced.as_ref(), Some(&aside));
    assert_eq!(
        std::fs::read_to_string(dir.path().join("secrets/token")).expect("secret"),
        "hush"
    );
    for (state, rows) in [(dir.path(), 5), (aside.as_path(), 7)] {
        let store = Store::open(state, "life-2").expect("store");
        assert_eq!(store.last_seq(), rows);
        store.close().await;
    }
}

#[tokio::test]
async fn a_damaged_or_foreign_file_changes_nothing() {
    let (dir, store) = host().await;
    let good = archived(&store, dir.path()).await;
    store.close().await;
    let before = std::fs::read(dir.path().join("journal.db")).expect("journal");
    let at = |what: &[u8]| good.windows(what.len()).position(|w| w == what).expect("there");
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let journal = at(b"SQLite format 3");
    let cases = [
        ("empty", Vec::new()),
        ("a text", vec![b'x'; 4096]),
        ("cut in the manifest", good[..700].to_vec()),
        ("cut in the journal", good[..journal + 5000].to_vec()),
        ("cut before its end", good[..good.len() - 1024].to_vec()),
        ("another tar", {
            let mut out = Vec::new();
            archive::put(&mut out, "song.mp3", 1, &mut &b"x"[..]).expect("put");
            archive::end(&mut out).expect("end");
            out
        }),
        ("a byte of the journal", changed(journal + 9000, 0xa5)),
        ("a byte of the key", changed(at(b"the key"), b'T')),
        ("the format", changed(at(b"clawker-backup/1") + 15, b'2')),
        ("more after its end", [&good[..good.len() - 1024], &good[..]].concat()),
    ];
    for (what, bytes) in cases {
        let backup = file(&dir, &bytes);
        let refused = restore(&backup, dir.path(), true, 1).await.expect_err(what);
        assert!(matches!(refused, RestoreError::Damaged { .. }), "{what}: {refused}");
        assert!(refused.to_string().contains("backup.tar"), "{what}: {refused}");
        assert_eq!(
            std::fs::read(dir.path().join("journal.db")).expect("journal"),
            before,
            "{what}"
        );
        assert!(
            !dir.path().join("restore.tmp").exists() && !dir.path().join("restore.ready").exists(),
            "{what}"
        );
    }
    let absent = restore(&dir.path().join("none.tar"), dir.path(), true, 1)
        .await
        .expect_err("absent");
    assert!(matches!(absent, RestoreError::Open { .. }), "{absent}");
}

/// Digests hold, and the journal in it was written anew by somebody without the host key.
#[tokio::test]
async fn a_journal_that_does_not_verify_is_not_put_in_place() {
    let (dir, store) = host().await;
    let mut files = Files::collect(&store, dir.path(), 1).await.expect("collected");
    let other = host().await;
    let stranger = Files::collect(&other.1, other.0.path(), 1).await.expect("collected");
    // Another host's key beside this one's journal.
    files.swap_key(stranger);
    let mut out = Vec::new();
    write(&mut files, &mut out).expect("written");
    let backup = file(&other.0, &out);
    drop(files);
    other.1.close().await;
    store.close().await;
    let state = other.0.path().join("new");
    let refused = restore(&backup, &state, false, 1).await.expect_err("another key");
    assert!(refused.to_string().contains("another key"), "{refused}");
    assert!(!state.join("journal.db").exists());
}

#[tokio::test]
async fn a_restore_that_was_cut_off_is_said_and_can_be_begun_again() {
    let (dir, store) = host().await;
    let bytes = archived(&store, dir.path()).await;
    store.close().await;
    let elsewhere = tempfile::tempdir().expect("dir");
    let backup = file(&elsewhere, &bytes);
    // As if it had ended between the moves: the old journal is aside, the new one not yet in place.
    std::fs::create_dir(dir.path().join("restore.ready")).expect("ready");
    std::fs::create_dir(dir.path().join("replaced-1")).expect("aside");
    let (from, to) = (dir.path().join("journal.db"), dir.path().join("replaced-1/journal.db"));
    std::fs::rename(from, to).expect("moved");
    let refused = refuse_half_restored(dir.path()).expect_err("half");
    assert!(refused.to_string().contains("clawker restore --force"), "{refused}");
    restore(&backup, dir.path(), true, 2).await.expect("restored");
    refuse_half_restored(dir.path()).expect("whole");
    let store = Store::open(dir.path(), "life-2").expect("store");
    assert_eq!(store.last_seq(), 5);
    store.close().await;
}

#[tokio::test]
async fn what_a_cut_off_backup_left_is_no_obstacle() {
    let (dir, store) = host().await;
    std::fs::create_dir(dir.path().join("backup.tmp")).expect("left over");
    std::fs::write(dir.path().join("backup.tmp/journal.db"), "x").expect("left over");
    assert!(!archived(&store, dir.path()).await.is_empty());
    for n in 0..70 {
        std::fs::write(dir.path().join(format!("ca/{n}")), "x").expect("write");
    }
    let e = Files::collect(&store, dir.path(), 1).await.expect_err("too many");
    assert!(matches!(e, MakeError::TooMuch { .. }), "{e}");
    store.close().await;
}
