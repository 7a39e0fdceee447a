//! A container without an engine for any init: PID 1 of namespaces of its own, leader of a session as an engine's
//! runtime makes it, with pipes or a terminal. clawkerd's command comes from a tiny control plane, the others' from
//! their command line.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clawker_wire::session as pb;
use clawker_wire::session::command::Body as Ask;
use clawker_wire::session::response::Body;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

use crate::host::eventually;
use crate::inits::{Init, Start, Streams};
use crate::plane::Plane;
use crate::session::Session;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime")
});

pub struct Bed {
    /// Which init, with which command.
    what: String,
    pub init: i32,
    /// The parent of init, which the kernel would end with its parent; gives what it has said and how it ended.
    keeper: Option<JoinHandle<Output>>,
    pub terminal: Option<File>,
    /// The control plane of clawkerd.
    plane: Option<tokio::task::JoinHandle<()>>,
}

/// What is left of a container.
#[derive(Debug)]
pub struct Ended {
    pub code: i32,
    pub stdout: String,
}

impl Bed {
    /// One whose command is the witness with these words.
    pub fn witness(start: Start, words: &[&str]) -> Self {
        Self::command(start, &[&[env!("CARGO_BIN_EXE_clawkerd-witness")], words].concat())
    }

    pub fn command(start: Start, argv: &[&str]) -> Self {
        if start.init != Init::Clawkerd {
            let line = [start.init.line(), &["--"], argv].concat();
            return Self::started(start, &line);
        }
        let (mut bed, plane) = Self::clawkerd(start);
        let main = pb::Main {
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            tty: start.streams == Streams::Terminal,
            open_stdin: start.streams == Streams::Terminal,
            no_new_privs: true,
            ..pb::Main::default()
        };
        let (ready, mut told) = mpsc::channel(1);
        let plane = RUNTIME.spawn(async move {
            let mut session = plane.session().await;
            let started = matches!(session.ready(main).await, Body::Started(_));
            let _ = ready.send(()).await;
            if started {
                attend(&mut session).await;
            }
        });
        // Not started is an end that the caller sees by its code.
        told.blocking_recv().expect("an answer of clawkerd's");
        bed.plane = Some(plane);
        bed
    }

    /// clawkerd without a session: its control plane has not come yet.
    pub fn clawkerd(start: Start) -> (Self, Plane) {
        let plane = RUNTIME.block_on(async { Plane::new() });
        let run_dir = format!("--run-dir={}", plane.dir().display());
        let line = [env!("CARGO_BIN_EXE_clawkerd"), "init", &run_dir, "--", "command"];
        (Self::started(start, &line), plane)
    }

    /// clawkerd with a session that is the body's to use.
    pub fn in_session<T>(start: Start, body: impl AsyncFnOnce(&Self, Session) -> T) -> T {
        let (bed, plane) = Self::clawkerd(start);
        RUNTIME.block_on(async { body(&bed, plane.session().await).await })
    }

    fn started(start: Start, line: &[&str]) -> Self {
        let mut command = Command::new(line[0]);
        command.args(&line[1..]);
        let program = line[0].to_owned();
        let terminal = match start.streams {
            Streams::Pipes => {
                let [stdin, stdout, stderr] = [Stdio::null(), Stdio::piped(), Stdio::piped()];
                command.stdin(stdin).stdout(stdout).stderr(stderr);
                None
            }
            Streams::Terminal => Some(on_terminal(&mut command)),
        };
        // SAFETY: only system calls between fork and exec.
        unsafe {
            command.pre_exec(move || inside(start));
        }
        let (tell, told) = std::sync::mpsc::channel();
        let keeper = std::thread::spawn(move || {
            // SAFETY: no pointer is passed. Of this thread alone: its next child is PID 1 of a new namespace.
            let made = check(unsafe { libc::unshare(libc::CLONE_NEWPID) });
            made.expect("a PID namespace");
            let child = command.spawn();
            let child =
                child.unwrap_or_else(|e| panic!("{program}: {e}; `cargo xtask setup` installs tini and dumb-init"));
            // The terminal's other copies would keep it open.
            drop(command);
            let _ = tell.send(i32::try_from(child.id()).expect("a pid"));
            child.wait_with_output().expect("ours")
        });
        Self {
            what: format!("{start:?}: {line:?}"),
            init: told.recv().expect("init is there"),
            keeper: Some(keeper),
            terminal,
            plane: None,
        }
    }

    pub fn signal(&self, signo: i32) {
        clawker_proc::signal::kill(self.init, signo).expect("init is ours");
    }

    /// Types on the terminal; returns when the terminal has dealt with it, which the echo of a mark says, or the end
    /// of everybody who had it open.
    pub fn types(&mut self, text: &str) {
        let terminal = self.terminal.as_mut().expect("a terminal");
        terminal.write_all(text.as_bytes()).expect("typed");
        let gone = |error: &io::Error| error.raw_os_error() == Some(libc::EIO);
        let mut seen = Vec::new();
        let mut marked = terminal.write_all(b"#");
        while marked.is_ok() && !seen.ends_with(b"#") {
            let mut buf = [0; 256];
            marked = terminal.read(&mut buf).map(|n| seen.extend_from_slice(&buf[..n]));
        }
        assert!(marked.as_ref().err().is_none_or(gone), "typing: {marked:?}");
    }

    /// Whether init has ended.
    pub fn is_over(&self) -> bool {
        self.keeper.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits for the end so long; `None` when init had to be killed for it.
    pub fn ended_within(self, patience: Duration) -> (Option<i32>, String) {
        let deadline = Instant::now() + patience;
        while !self.is_over() && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let over = self.is_over();
        if !over {
            if let Some(plane) = &self.plane {
                plane.abort();
            }
            self.signal(libc::SIGKILL);
        }
        let ended = self.ended();
        (over.then_some(ended.code), ended.stdout)
    }

    /// Waits for the end.
    pub fn ended(mut self) -> Ended {
        let mut stdout = String::new();
        if let Some(terminal) = &mut self.terminal {
            // To EIO, when the last that had the slave has ended.
            let mut seen = Vec::new();
            let _ = terminal.read_to_end(&mut seen);
            stdout = String::from_utf8_lossy(&seen).replace('\r', "");
        }
        eventually(&format!("the container of {} ends", self.what), || {
            self.is_over().then_some(())
        });
        let output = self.keeper.take().expect("once").join().expect("it only waits");
        stdout.push_str(&String::from_utf8_lossy(&output.stdout));
        print!("{}", String::from_utf8_lossy(&output.stderr));
        Ended {
            // A shell's way to write it, so that an init that was killed isn't taken for one that exited.
            code: output
                .status
                .code()
                .unwrap_or_else(|| -output.status.signal().unwrap_or(0)),
            stdout,
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        if let Some(plane) = self.plane.take() {
            plane.abort();
        }
        if let Some(keeper) = self.keeper.take() {
            let _ = clawker_proc::signal::kill(self.init, libc::SIGKILL);
            let _ = keeper.join();
        }
    }
}

/// Acknowledges the command's end, and keeps the session until then.
async fn attend(session: &mut Session) {
    loop {
        // Less than its patience: a command may run longer than that.
        let next = tokio::time::timeout(Duration::from_secs(5), session.next()).await;
        if let Ok((_, Body::Exited(exited))) = next {
            let exec_id = exited.exec_id;
            session.send(Ask::AckExit(pb::AckExit { exec_id })).await;
            std::future::pending::<()>().await;
        }
    }
}

/// A descriptor that init is given besides its streams.
const ONE_MORE: i32 = 99;

fn on_terminal(command: &mut Command) -> File {
    use rustix::pty::{OpenptFlags, openpt, ptsname, unlockpt};
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).expect("pty");
    unlockpt(&master).expect("unlocked");
    let name = ptsname(&master, Vec::new())
        .expect("named")
        .into_string()
        .expect("text");
    let slave = || File::options().read(true).write(true).open(&name).expect("slave");
    command.stdin(slave()).stdout(slave()).stderr(slave());
    master.into()
}

/// In the child that becomes init: what an engine's runtime does before it executes it.
fn inside(start: Start) -> io::Result<()> {
    // SAFETY: system calls with constants and literals.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        check(libc::unshare(libc::CLONE_NEWNS))?;
        let none = std::ptr::null();
        check(libc::mount(
            none,
            c"/".as_ptr(),
            none,
            libc::MS_REC | libc::MS_PRIVATE,
            none.cast(),
        ))?;
        let (proc, tmpfs) = (c"proc".as_ptr(), c"tmpfs".as_ptr());
        check(libc::mount(proc, c"/proc".as_ptr(), proc, 0, none.cast()))?;
        check(libc::mount(tmpfs, c"/run".as_ptr(), tmpfs, 0, none.cast()))?;
        check(libc::setsid())?;
        if start.streams == Streams::Terminal {
            check(libc::ioctl(0, libc::TIOCSCTTY, 0))?;
        }
        // Also the two that libc keeps: a test runner may have been started with one of them ignored.
        let by_default = [0_u64; 4];
        for signo in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signo,
                by_default.as_ptr(),
                std::ptr::null::<u64>(),
                8,
            );
        }
        if start.sigchld_ignored {
            libc::signal(libc::SIGCHLD, libc::SIG_IGN);
        }
        libc::umask(0o022);
        // Whatever the test was started with stays behind; one more descriptor than the usual three doesn't.
        libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC);
        check(libc::dup2(0, ONE_MORE))?;
    }
    Ok(())
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
