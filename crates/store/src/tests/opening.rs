use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::faults::Point;
use crate::{Error, Rebuilt};

#[tokio::test]
async fn a_new_store_is_private_and_not_called_rebuilt() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    store.append(None, denied(1)).await.expect("append");
    assert_eq!(store.report().rebuilt, None);
    for entry in std::fs::read_dir(dir.path()).expect("files") {
        let entry = entry.expect("file");
        let mode = entry.metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{:?}", entry.file_name());
    }
    store.close().await;
}

#[test]
fn a_missing_folder_is_named() {
    let dir = tempfile::tempdir().expect("dir").path().join("none");
    let e = Store::open(&dir, "life").expect_err("no folder");
    assert_eq!(e, Error::NoDir { dir: dir.clone() });
    assert!(e.to_string().contains("create it"), "{e}");
}

#[tokio::test]
async fn a_second_control_plane_is_kept_out_until_the_first_is_gone() {
    let dir = tempfile::tempdir().expect("dir");
    let store = open(dir.path());
    let e = Store::open(dir.path(), "life-2").expect_err("locked");
    assert_eq!(e, Error::Locked { dir: dir.path().into() });
    assert!(e.to_string().contains("--state-dir"), "{e}");
    store.close().await;
    let store = open(dir.path());
    drop(store);
    reopen(dir.path()).close().await;
}

/// A store with an agent in it, closed; and its projection.
async fn furnished(dir: &Path) -> Vec<String> {
    let store = open(dir);
    for event in [creating(0), created(0, 1), denied(1)] {
        store.append(Some(&name(0)), event).await.expect("append");
    }
    store.close().await;
    dump(dir)
}

#[tokio::test]
async fn a_projection_that_cannot_be_used_is_made_anew() {
    type Case = (&'static str, fn(&Path), fn(&Rebuilt) -> bool);
    let cases: [Case; 6] = [
        (
            "missing",
            |f| std::fs::remove_file(f).expect("remove"),
            |r| *r == Rebuilt::Missing,
        ),
        (
            "not a database",
            |f| std::fs::write(f, "x".repeat(5000)).expect("write"),
            |r| matches!(r, Rebuilt::Corrupt(_)),
        ),
        ("damaged page", damage, |r| matches!(r, Rebuilt::Corrupt(_))),
        (
            "older schema",
            |f| sql(f, "PRAGMA user_version = 1"),
            |r| matches!(r, Rebuilt::OtherSchema { found: 1, .. }),
        ),
        (
            "ahead",
            |f| sql(f, "UPDATE applied SET seq = 4"),
            |r| *r == Rebuilt::Ahead { applied: 4, last: 3 },
        ),
        (
            "another history",
            |f| sql(f, "UPDATE applied SET seq = 2, hash = zeroblob(32)"),
            |r| *r == Rebuilt::Ahead { applied: 2, last: 3 },
        ),
    ];
    for (what, spoil, expected) in cases {
        let dir = tempfile::tempdir().expect("dir");
        let before = furnished(dir.path()).await;
        spoil(&Which::State.file(dir.path()));
        let store = open(dir.path());
        let report = store.report().clone();
        assert!(report.rebuilt.as_ref().is_some_and(expected), "{what}: {report:?}");
        assert_eq!((report.replayed, report.last_seq), (3, 3), "{what}");
        store.close().await;
        assert_eq!(dump(dir.path()), before, "{what}");
    }
}

fn sql(file: &Path, sql: &str) {
    rusqlite::Connection::open(file)
        .expect("open")
        .execute_batch(sql)
        .expect("sql");
}

/// Overwrites all pages but the first.
fn damage(file: &Path) {
    let mut bytes = std::fs::read(file).expect("read");
    bytes[4096..].fill(0x5a);
    std::fs::write(file, bytes).expect("write");
}

#[tokio::test]
async fn a_damaged_journal_is_named_and_left_alone() {
    for spoil in [damage, |f: &Path| std::fs::write(f, "x".repeat(5000)).expect("write")] {
        let dir = tempfile::tempdir().expect("dir");
        furnished(dir.path()).await;
        let file = Which::Journal.file(dir.path());
        spoil(&file);
        let before = std::fs::read(&file).expect("read");
        let e = Store::open(dir.path(), "life-2").expect_err("damaged");
        assert!(
            matches!(&e, Error::JournalCorrupt { file: named, .. } if *named == file),
            "{e}"
        );
        assert!(e.to_string().contains("backup"), "{e}");
        assert_eq!(std::fs::read(&file).expect("read"), before);
    }
}

#[tokio::test]
async fn a_newer_journal_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    furnished(dir.path()).await;
    tamper(dir.path(), "PRAGMA user_version = 99");
    let e = Store::open(dir.path(), "life-2").expect_err("newer");
    assert!(matches!(e, Error::Newer { found: 99, .. }), "{e}");
}

#[tokio::test]
async fn a_row_of_an_unknown_kind_stops_a_replay_by_name() {
    let dir = tempfile::tempdir().expect("dir");
    furnished(dir.path()).await;
    tamper(dir.path(), "UPDATE journal SET kind = 'FromTheFuture' WHERE seq = 2");
    std::fs::remove_file(Which::State.file(dir.path())).expect("remove");
    let e = Store::open(dir.path(), "life-2").expect_err("unknown kind");
    assert!(
        matches!(&e, Error::Unreadable { seq: 2, kind, .. } if kind == "FromTheFuture"),
        "{e}"
    );
}

#[tokio::test]
async fn a_crash_between_the_two_commits_is_repaired_at_open() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, faults) = open_faulty(dir.path());
    store.append(Some(&name(0)), creating(0)).await.expect("append");
    faults.set(Point::BetweenCommits, true);
    faults.set(Point::CatchUp, true);
    let row = store.append(Some(&name(0)), created(0, 1)).await.expect("journaled");
    assert_eq!(row.seq, 2);
    store.close().await;
    assert!(
        dump(dir.path())
            .iter()
            .any(|line| line.starts_with("applied [Integer(1), Integer(1)"))
    );

    let store = open(dir.path());
    assert_eq!((store.report().rebuilt.clone(), store.report().replayed), (None, 1));
    let agent = store.agent(&name(0)).await.expect("read").expect("agent");
    assert_eq!(agent.container, Some(container(1)));
    store.close().await;
}

#[tokio::test]
async fn while_the_projection_is_behind_no_old_answer_is_given() {
    let dir = tempfile::tempdir().expect("dir");
    let (store, faults) = open_faulty(dir.path());
    store.append(Some(&name(0)), creating(0)).await.expect("append");
    faults.set(Point::BetweenCommits, true);
    faults.set(Point::CatchUp, true);
    store.append(Some(&name(0)), created(0, 1)).await.expect("journaled");
    assert!(matches!(store.agent(&name(0)).await, Err(Error::Full { .. })));
    let refused = store.append(None, denied(1)).await;
    assert!(matches!(refused, Err(Error::Full { .. })), "{refused:?}");
    assert_eq!(store.last_seq(), 2, "the refused row is nowhere");

    faults.set(Point::BetweenCommits, false);
    faults.set(Point::CatchUp, false);
    let agent = store.agent(&name(0)).await.expect("read").expect("agent");
    assert_eq!(agent.container, Some(container(1)));
    assert_eq!(store.append(None, denied(1)).await.expect("append").seq, 3);
    store.close().await;
}

#[tokio::test]
async fn a_newer_projection_is_put_aside_and_never_overwritten() {
    let dir = tempfile::tempdir().expect("dir");
    let before = furnished(dir.path()).await;
    let file = Which::State.file(dir.path());
    for again in 0..2 {
        sql(&file, "PRAGMA user_version = 77; CREATE TABLE of_the_future (x TEXT)");
        let store = open(dir.path());
        let kept = dir.path().join(["state.db.schema-77", "state.db.schema-77.1"][again]);
        let expected = Rebuilt::Newer {
            found: 77,
            known: crate::open::STATE_VERSION,
            kept: kept.clone(),
        };
        assert_eq!(store.report().rebuilt, Some(expected));
        assert!(
            store
                .report()
                .rebuilt
                .as_ref()
                .is_some_and(|why| why.to_string().contains("state.db.schema-77"))
        );
        store.close().await;
        let tables = rusqlite::Connection::open(&kept).expect("open").query_row(
            "SELECT count(*) FROM sqlite_master WHERE name IN ('of_the_future', 'agents')",
            [],
            |row| row.get::<_, u32>(0),
        );
        assert_eq!(tables, Ok(2), "{}", kept.display());
    }
    assert_eq!(dump(dir.path()), before);
}

/// Each kind of damage, what is said of it, and that the file is as it was.
#[tokio::test]
async fn a_journal_that_is_no_journal_is_refused_by_name_and_left_as_it_was() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil); 7] = [
        ("emptied", |f| std::fs::write(f, "").expect("write")),
        ("cut in the middle of a page", |f| cut(f, 5000)),
        ("cut at a page", |f| cut(f, 8192)),
        ("less than a header", |f| cut(f, 50)),
        ("a text", |f| {
            std::fs::write(f, "-- SQL dump\n".repeat(500)).expect("write")
        }),
        ("another database's", |f| {
            std::fs::remove_file(f).expect("remove");
            sql(f, "CREATE TABLE songs (title TEXT)");
        }),
        ("another database's of a like version", |f| {
            std::fs::remove_file(f).expect("remove");
            sql(f, "CREATE TABLE songs (title TEXT); PRAGMA user_version = 2");
        }),
    ];
    for (what, spoil) in cases {
        let dir = tempfile::tempdir().expect("dir");
        furnished(dir.path()).await;
        let file = Which::Journal.file(dir.path());
        spoil(&file);
        let before = std::fs::read(&file).expect("read");
        let e = Store::open(dir.path(), "life-2").expect_err(what);
        assert!(
            matches!(&e, Error::JournalCorrupt { file: named, .. } if *named == file),
            "{what}: {e}"
        );
        assert!(e.to_string().contains("clawker restore"), "{what}: {e}");
        assert!(std::fs::read(&file).expect("read") == before, "{what}: it was changed");
    }
}

fn cut(file: &Path, length: u64) {
    let file = std::fs::File::options().write(true).open(file).expect("open");
    file.set_len(length).expect("cut");
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_is_begun_again() {
    let dir = tempfile::tempdir().expect("dir");
    std::fs::write(Which::Journal.file(dir.path()), "").expect("write");
    let store = open(dir.path());
    assert_eq!(store.append(None, denied(1)).await.expect("append").seq, 1);
    store.close().await;
}

const READ_ONLY: &str = "CLAWKER_STORE_READ_ONLY_DIR";

/// What opens a folder in which it may not write. Run by itself it has nothing to do.
#[test]
fn read_only_child() {
    let Some(dir) = std::env::var_os(READ_ONLY) else { return };
    match Store::open(Path::new(&dir), "child") {
        Err(e @ Error::ReadOnly { .. }) => println!("said: {e}"),
        other => println!("opened: {other:?}"),
    }
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_named_with_what_to_do() {
    use std::os::unix::process::CommandExt as _;
    let dir = tempfile::tempdir().expect("dir");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o555)).expect("mode");
    let exe = tempfile::tempdir().expect("dir");
    std::fs::set_permissions(exe.path(), std::fs::Permissions::from_mode(0o755)).expect("mode");
    let program = exe.path().join("tests");
    std::fs::copy(std::env::current_exe().expect("exe"), &program).expect("copy");
    let mut child = std::process::Command::new(&program);
    child.args(["tests::opening::read_only_child", "--exact", "--nocapture"]);
    child.env(READ_ONLY, dir.path()).current_dir("/");
    // Root may write anywhere.
    if may_write_anywhere(dir.path()) {
        child.uid(65534).gid(65534);
    }
    let output = child.output().expect("child");
    let text = String::from_utf8_lossy(&output.stdout);
    let named = format!("`{}` can't be written", dir.path().display());
    assert!(
        text.contains("said: ") && text.contains(&named) && text.contains("chown"),
        "{text}"
    );
    assert_eq!(std::fs::read_dir(dir.path()).expect("files").count(), 0);
}

fn may_write_anywhere(folder: &Path) -> bool {
    std::fs::File::create(folder.join("probe")).is_ok_and(|_| std::fs::remove_file(folder.join("probe")).is_ok())
}
