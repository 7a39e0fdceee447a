//! Files on paths that somebody has shaped to lead elsewhere, to hang, or to break something.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clawker_wire::session::command::Body as Command;
use clawker_wire::session::response::Body;
use clawker_wire::session::{self as pb};

use super::{acknowledge, still_serves};
use crate::host::{Container, can_run, check};
use crate::plane::Plane;
use crate::session::Session;

/// What the agent has made of its `/run`; `/run/mounted` is a folder of the host's, read-only.
const TRAPS: &str = "cd /run && mkfifo fifo && mknod null c 1 3 && mknod zero c 1 5 && mkdir dir && ln -s loop loop && \
    ln -s b a && ln -s a b && ln -s /proc/1/root root && ln -s /proc/self/fd fds && ln -s /run/mounted mount && \
    ln -s /run/mounted/secret last && ln -s ../../../../../../etc up && truncate -s 1T huge && echo plain >plain";

/// With a folder of the host's mounted where the command can see it, and not write it.
fn with_mount(run_dir: &Path, outside: &Path) -> Container {
    let outside = CString::new(outside.as_os_str().as_bytes()).expect("a path");
    Container::start_prepared(run_dir, &[], move || {
        let (target, none) = (c"/run/mounted".as_ptr(), std::ptr::null());
        let read_only = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
        // SAFETY: all are C strings that outlive the calls, or null where that is allowed.
        unsafe {
            check(libc::mkdir(target, 0o755))?;
            check(libc::mount(outside.as_ptr(), target, none, libc::MS_BIND, none.cast()))?;
            check(libc::mount(none, target, none, read_only, none.cast()))
        }
    })
}

/// The host's folder, with a secret in it.
fn outside() -> tempfile::TempDir {
    let outside = tempfile::tempdir().expect("folder");
    std::fs::write(outside.path().join("secret"), "secret").expect("written");
    outside
}

/// A session with a container in which the traps are laid.
async fn trapped(plane: &Plane) -> Session {
    let mut session = plane.session().await;
    assert_eq!(said(&mut session, "traps", TRAPS).await, "");
    session
}

fn read(path: &str) -> Command {
    Command::ReadFile(pb::ReadFile {
        path: path.to_owned(),
        ..pb::ReadFile::default()
    })
}

fn file(path: &str) -> pb::WriteFile {
    pb::WriteFile {
        path: path.to_owned(),
        mode: 0o644,
        content: b"planted"[..].into(),
        ..pb::WriteFile::default()
    }
}

async fn refused(session: &mut Session, command: Command, code: &str) {
    let what = match &command {
        Command::ReadFile(file) => format!("reading {:.80}", file.path),
        Command::WriteFile(file) => format!("writing {:.80}", file.path),
        _ => String::new(),
    };
    let answer = session.ask(command).await;
    let refused = matches!(&answer, Body::Failed(failed) if failed.code == code);
    assert!(refused, "{what}: {answer:?} instead of {code}");
}

/// A script's whole output.
async fn said(session: &mut Session, id: &str, script: &str) -> String {
    session.exec(id, script).await;
    let (stdout, stderr) = session.io(id, 0).await.all().await;
    assert_eq!(String::from_utf8_lossy(&stderr), "");
    session.drained(id).await;
    acknowledge(session, id).await;
    String::from_utf8_lossy(&stdout).into_owned()
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_hangs_or_breaks_something_is_refused_and_nothing_is_written() {
    if !can_run() {
        return;
    }
    let (plane, outside) = (Plane::new(), outside());
    let container = with_mount(plane.dir(), outside.path());
    let mut session = trapped(&plane).await;
    let (name, path) = (
        format!("/run/{}", "x".repeat(256)),
        format!("/run{}", "/x".repeat(2500)),
    );
    for (path, reading, writing) in [
        ("", "bad_request", "bad_request"),
        ("run/plain", "bad_request", "bad_request"),
        ("/run/../etc/passwd", "bad_request", "bad_request"),
        ("/..", "bad_request", "bad_request"),
        ("~/../etc/passwd", "bad_request", "bad_request"),
        ("/run/pl\0ain", "bad_request", "bad_request"),
        (&path, "bad_request", "bad_request"),
        (&name, "io", "io"),
        // The kernel's word for a loop, and for a magic link that isn't to be followed.
        ("/run/a/x", "io", "io"),
        ("/run/loop/x", "io", "io"),
        ("/proc/1/root/run/plain", "io", "io"),
        ("/proc/self/fd/1/x", "io", "io"),
        ("/run/root/run/plain", "io", "io"),
        ("/run/fds/1/x", "io", "io"),
        ("/run/plain/x", "io", "io"),
        ("/proc/self/status", "refused", "refused"),
        ("/proc/sys/kernel/core_pattern", "refused", "refused"),
        ("/sys/kernel/uevent_helper/", "bad_request", "bad_request"),
        ("/run/fifo", "refused", "refused"),
        ("/run/null", "refused", "refused"),
        ("/run/zero", "refused", "refused"),
        ("/run/dir", "refused", "refused"),
        ("/run/mount/planted", "not_found", "io"),
        ("/run/mounted/secret/", "bad_request", "bad_request"),
    ] {
        refused(&mut session, read(path), reading).await;
        let changed = pb::WriteFile {
            when: pb::WriteWhen::IfChanged as i32,
            ..file(path)
        };
        for file in [file(path), changed] {
            refused(&mut session, Command::WriteFile(file), writing).await;
        }
    }
    refused(&mut session, read("/run/huge"), "too_large").await;
    refused(&mut session, read("/run/loop"), "io").await;
    let cases = [
        (
            pb::WriteFile {
                mode: 0o4755,
                ..file("/run/mode")
            },
            "bad_request",
        ),
        (
            pb::WriteFile {
                owner: "no-such-user".to_owned(),
                ..file("/run/owner")
            },
            "bad_user",
        ),
        (
            pb::WriteFile {
                content: vec![0; clawker_wire::MAX_MESSAGE - 32 * 1024].into(),
                ..file("/run/large")
            },
            "too_large",
        ),
    ];
    for (file, code) in cases {
        refused(&mut session, Command::WriteFile(file), code).await;
    }
    let seen = said(&mut session, "look", "cd /run; ls -A; cat plain; stat -c %F null fifo").await;
    let before = "a\nb\ndir\nfds\nfifo\nhuge\nlast\nloop\nmount\nmounted\nnull\nplain\nroot\nup\nzero\n";
    assert_eq!(
        seen,
        format!("{before}plain\ncharacter special file\nfifo\n"),
        "something was left or changed"
    );
    let outside = |name: &str| std::fs::read_to_string(outside.path().join(name)).ok();
    assert_eq!(
        (outside("secret").as_deref(), outside("planted")),
        (Some("secret"), None)
    );
    still_serves(&container, &mut session).await;
}

#[tokio::test]
async fn a_link_at_the_end_is_replaced_and_one_on_the_way_stays_below_the_root() {
    if !can_run() {
        return;
    }
    let (plane, outside) = (Plane::new(), outside());
    let container = with_mount(plane.dir(), outside.path());
    let mut session = trapped(&plane).await;
    let longest = format!("/run/{}", "x".repeat(255));
    for path in ["/run/last", "/run/loop", &longest] {
        let answer = session.ask(Command::WriteFile(file(path))).await;
        assert!(
            matches!(&answer, Body::FileWritten(file) if file.written),
            "{path}: {answer:?}"
        );
        let answer = session.ask(read(path)).await;
        assert!(
            matches!(&answer, Body::FileContent(file) if file.content == b"planted"[..]),
            "{answer:?}"
        );
    }
    let seen = said(
        &mut session,
        "look",
        "cat /run/mounted/secret; stat -c %F /run/last /run/loop",
    )
    .await;
    assert_eq!(seen, "secretregular file\nregular file\n");
    // As many `..` as there are: above the root is the root.
    let answer = session.ask(read("/run/up/passwd")).await;
    assert!(
        matches!(&answer, Body::FileContent(file) if file.content.starts_with(b"root:")),
        "{answer:?}"
    );
    still_serves(&container, &mut session).await;
}
