use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

struct Root {
    dir: tempfile::TempDir,
    fd: OwnedFd,
}

fn new_root() -> Root {
    let dir = tempfile::tempdir().expect("tempdir");
    let fd = rustix::fs::open(dir.path(), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).expect("opened");
    Root { dir, fd }
}

fn file<'a>(path: &'a str, when: When, content: &'a [u8]) -> NewFile<'a> {
    NewFile {
        path,
        mode: 0o640,
        uid: rustix::process::getuid().as_raw(),
        gid: rustix::process::getgid().as_raw(),
        when,
        content,
    }
}

#[test]
fn a_file_is_written_with_its_parents_and_read_back() {
    let root = new_root();
    assert!(write(&root.fd, &file("/a/b/c.txt", When::Always, b"one")).expect("written"));
    assert_eq!(read(&root.fd, "/a/b/c.txt", 100).expect("read"), b"one");
    let meta = std::fs::metadata(root.dir.path().join("a/b/c.txt")).expect("there");
    assert_eq!(meta.mode() & 0o7777, 0o640);
    assert_eq!(
        std::fs::read_dir(root.dir.path().join("a/b")).expect("dir").count(),
        1,
        "a temporary is left"
    );
}

#[test]
fn when_decides() {
    let root = new_root();
    assert!(write(&root.fd, &file("/f", When::IfAbsent, b"one")).expect("written"));
    assert!(!write(&root.fd, &file("/f", When::IfAbsent, b"two")).expect("left"));
    assert!(!write(&root.fd, &file("/f", When::IfChanged, b"one")).expect("left"));
    assert!(write(&root.fd, &file("/f", When::IfChanged, b"two")).expect("written"));
    let mut other_mode = file("/f", When::IfChanged, b"two");
    other_mode.mode = 0o600;
    assert!(
        write(&root.fd, &other_mode).expect("written"),
        "another mode is a change"
    );
    assert!(write(&root.fd, &file("/f", When::Always, b"two")).expect("written"));
}

#[test]
fn a_symlink_never_leads_out_of_the_root() {
    let outside = tempfile::tempdir().expect("tempdir");
    std::fs::write(outside.path().join("secret"), "s").expect("written");
    let root = new_root();
    symlink(outside.path(), root.dir.path().join("out")).expect("symlink");
    assert!(read(&root.fd, "/out/secret", 100).is_err());
    // The link means the same path below the root: that is where the file goes, or nowhere.
    let _ = write(&root.fd, &file("/out/planted", When::Always, b"x"));
    assert!(!outside.path().join("planted").exists());
    symlink(outside.path().join("secret"), root.dir.path().join("last")).expect("symlink");
    write(&root.fd, &file("/last", When::Always, b"x")).expect("replaces the link");
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("there"), b"s");
}

#[test]
fn what_is_not_a_plain_file_is_refused() {
    let root = new_root();
    rustix::fs::mknodat(
        &root.fd,
        "fifo",
        rustix::fs::FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .expect("fifo");
    assert!(matches!(read(&root.fd, "/fifo", 100), Err(FileError::NotPlain(_))));
    std::fs::create_dir(root.dir.path().join("dir")).expect("dir");
    assert!(read(&root.fd, "/dir", 100).is_err());
    for path in ["/fifo", "/dir"] {
        for when in [When::Always, When::IfChanged] {
            let refused = write(&root.fd, &file(path, when, b"x"));
            assert!(matches!(refused, Err(FileError::NotPlain(_))), "{path} was replaced");
        }
        assert!(!write(&root.fd, &file(path, When::IfAbsent, b"x")).expect("it is there"));
    }
    let real = super::root().expect("/");
    assert!(matches!(
        read(&real, "/proc/self/status", 100_000),
        Err(FileError::Kernels(_))
    ));
    assert!(matches!(
        write(&real, &file("/proc/sys/kernel/x", When::Always, b"")),
        Err(FileError::Kernels(_))
    ));
}

#[test]
fn paths_and_sizes_have_limits() {
    let root = new_root();
    for bad in [
        "",
        "/",
        "a",
        "/a/../b",
        "/a/",
        "/a\0",
        &format!("/{}", "x".repeat(MAX_PATH)),
    ] {
        assert!(
            matches!(read(&root.fd, bad, 10), Err(FileError::Path(_))),
            "{bad:?} was accepted"
        );
        assert!(
            // With a `/` at its end it is a folder, which has no content.
            matches!(write(&root.fd, &file(bad, When::Always, b"x")), Err(FileError::Path(_))),
            "{bad:?} was accepted"
        );
    }
    write(&root.fd, &file("/f", When::Always, b"12345")).expect("written");
    assert_eq!(read(&root.fd, "/f", 5).expect("read").len(), 5);
    assert!(matches!(read(&root.fd, "/f", 4), Err(FileError::TooLarge { .. })));
    let large = vec![0; MAX_FILE + 1];
    assert!(matches!(
        write(&root.fd, &file("/g", When::Always, &large)),
        Err(FileError::TooLarge { .. })
    ));
    let mut setuid = file("/h", When::Always, b"");
    setuid.mode = 0o4755;
    assert!(matches!(write(&root.fd, &setuid), Err(FileError::Mode(_))));
}

#[test]
fn what_has_to_be_made_on_the_way_is_the_owners() {
    let root = new_root();
    let me = rustix::process::geteuid().as_raw();
    let owned = |path, mode| NewFile {
        mode,
        uid: if me == 0 { 1000 } else { me },
        gid: if me == 0 {
            1000
        } else {
            rustix::process::getegid().as_raw()
        },
        ..file(path, When::Always, b"x")
    };
    let seen = |path: &str| {
        let meta = std::fs::metadata(root.dir.path().join(path)).expect("there");
        (meta.mode() & 0o777, meta.uid())
    };
    let private = owned("/home/a/.ssh/known_hosts", 0o600);
    assert!(write(&root.fd, &private).expect("written"));
    assert_eq!(seen("home/a/.ssh"), (0o700, private.uid));
    let open = owned("/srv/x/file", 0o644);
    assert!(write(&root.fd, &open).expect("written"));
    assert_eq!(seen("srv/x"), (0o755, open.uid));
}

#[test]
fn a_path_with_a_slash_at_its_end_is_a_folder() {
    let root = new_root();
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let folder = |path, mode, when| NewFile {
        mode,
        uid,
        gid,
        ..file(path, when, b"")
    };
    let mode = || std::fs::metadata(root.dir.path().join("a/b")).expect("there").mode() & 0o7777;
    assert!(write(&root.fd, &folder("/a/b/", 0o755, When::IfAbsent)).expect("made"));
    assert!(!write(&root.fd, &folder("/a/b/", 0o700, When::IfAbsent)).expect("left"));
    assert_eq!(mode(), 0o755);
    assert!(write(&root.fd, &folder("/a/b/", 0o700, When::IfChanged)).expect("changed"));
    assert!(!write(&root.fd, &folder("/a/b/", 0o700, When::IfChanged)).expect("the same"));
    assert_eq!(mode(), 0o700);
    symlink("b", root.dir.path().join("a/link")).expect("link");
    write(&root.fd, &folder("/a/link/", 0o755, When::Always)).expect_err("a symlink is no folder");
    assert_eq!(mode(), 0o700);
    write(&root.fd, &folder("//", 0o755, When::Always)).expect_err("the root has no name");
}

#[test]
fn a_tilde_is_the_owners_home() {
    for (path, home, expected) in [
        ("~/.x", "/home/a", "/home/a/.x"),
        ("~/.x", "/home/a/", "/home/a/.x"),
        ("~/.x", "/", "/.x"),
        ("~/.x", "", "/.x"),
        ("/~/x", "/home/a", "/~/x"),
    ] {
        assert_eq!(at_home(path, home), expected);
    }
}
