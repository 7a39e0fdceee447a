//! The program itself, on a pseudo-terminal: raw while the command runs, as it was before on every way out.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawker_wire::admin::*;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use tokio::sync::Semaphore;

use crate::fake::Say;
use crate::stage::Stage;

struct Pty {
    master: OwnedFd,
    slave: File,
}

impl Pty {
    fn open() -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let name = ptsname(&master, Vec::new())
            .expect("its name")
            .into_string()
            .expect("UTF-8");
        let slave = File::options().read(true).write(true).open(name).expect("opened");
        let pty = Self { master, slave };
        pty.resize(24, 80);
        pty
    }

    fn resize(&self, rows: u16, cols: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: cols,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).expect("resized");
    }

    fn is_raw(&self) -> bool {
        !tcgetattr(&self.slave)
            .expect("its modes")
            .local_modes
            .contains(LocalModes::ICANON)
    }

    fn file(&self) -> File {
        File::from(self.master.try_clone().expect("cloned"))
    }

    /// Once nobody has the other end, reading ends.
    fn all_that_was_shown(self) -> String {
        let mut master = self.file();
        drop(self.slave);
        let (mut shown, mut some) = (Vec::new(), [0; 4096]);
        while let Ok(read @ 1..) = master.read(&mut some) {
            shown.extend_from_slice(&some[..read]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    }

    fn spawn(&self, stage: &Stage, line: &[&str]) -> Child {
        let end = || Stdio::from(self.slave.try_clone().expect("cloned"));
        Command::new(env!("CARGO_BIN_EXE_clawker"))
            .env_remove("RUST_BACKTRACE")
            .arg("--socket")
            .arg(stage.socket())
            .args(line)
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("spawned")
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

async fn ended(child: &mut Child) -> ExitStatus {
    let mut status = None;
    until("the program ends", || {
        status = child.try_wait().expect("waited for");
        status.is_some()
    })
    .await;
    status.expect("ended")
}

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid")).expect("a pid");
    kill_process(pid, signal).expect("signalled");
}

/// A stage whose command runs, on a terminal, until `end` has two permits.
fn stage(end: &Arc<Semaphore>, verdict: Say<StartProgress>) -> Stage {
    let stage = Stage::new();
    let ready = StartProgress {
        body: Some(start_progress::Body::Ready(Ready { pid: 9 })),
    };
    let attached = AttachOutput {
        body: Some(attach_output::Body::Attached(Attached { tty: true })),
    };
    stage.fake.with(|scene| {
        scene.start = vec![vec![Say::Message(ready), Say::Words(end.clone(), 1), verdict]];
        scene.attach = vec![vec![Say::Message(attached), Say::Words(end.clone(), 1)]];
    });
    stage
}

fn exit(code: i32) -> Say<StartProgress> {
    Say::Message(StartProgress {
        body: Some(start_progress::Body::Exit(Exit {
            code,
            signal: 0,
            oom: false,
        })),
    })
}

const RUN: &[&str] = &["run", "-it", "img"];

#[tokio::test]
async fn raw_until_the_command_ends_and_told_each_size() {
    let end = Arc::new(Semaphore::new(0));
    let (stage, pty) = (stage(&end, exit(7)), Pty::open());
    let mut child = pty.spawn(&stage, RUN);
    until("raw", || pty.is_raw()).await;
    let heard = |word: &str| stage.fake.with(|scene| scene.input.concat().contains(word));
    until("the first size", || heard("resize 24x80")).await;
    // Ctrl-C is a byte for the command now.
    pty.file().write_all(b"x\x03").expect("typed");
    until("the keys", || heard("stdin x\x03")).await;
    pty.resize(50, 132);
    signal(&child, Signal::WINCH);
    until("the second size", || heard("resize 50x132")).await;
    end.add_permits(2);
    assert_eq!(ended(&mut child).await.code(), Some(7));
    assert!(!pty.is_raw(), "the terminal was left raw");
}

#[tokio::test]
async fn cooked_again_after_a_signal() {
    for (sent, code) in [
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::QUIT, 131),
    ] {
        let end = Arc::new(Semaphore::new(0));
        let (stage, pty) = (stage(&end, exit(0)), Pty::open());
        let mut child = pty.spawn(&stage, RUN);
        until("raw", || pty.is_raw()).await;
        signal(&child, sent);
        assert_eq!(ended(&mut child).await.code(), Some(code));
        assert!(!pty.is_raw(), "the terminal was left raw by {sent:?}");
    }
}

#[tokio::test]
async fn cooked_again_after_an_error() {
    let end = Arc::new(Semaphore::new(0));
    let (stage, pty) = (stage(&end, Say::Fail(tonic::Status::not_found("gone"))), Pty::open());
    let mut child = pty.spawn(&stage, RUN);
    until("raw", || pty.is_raw()).await;
    end.add_permits(2);
    assert_eq!(ended(&mut child).await.code(), Some(66));
    assert!(!pty.is_raw(), "the terminal was left raw");
    let shown = pty.all_that_was_shown();
    assert!(shown.contains("gone"), "{shown:?}");
}
