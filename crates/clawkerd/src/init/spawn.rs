//! Starts a process of the user's. Only PID 1 does, and every one begins inside the `agent` cgroup.
//!
//! The child joins the cgroup before anything of the image's runs. If `agent` is frozen it stands still right there,
//! so PID 1 never waits for it: how exec went comes through a close-on-exec pipe that is polled.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use clawker_proc::{harden, mark};

use super::{child, descriptors};
use crate::user::Identity;

/// `CAP_SETPCAP` and `CAP_SYS_PTRACE` (include/uapi/linux/capability.h): no process of the user's has them. Without the
/// second nobody can read PID 1; without the first the session half holds one capability that they lack, so the
/// kernel refuses to let them trace it even in the moment before it has made itself undumpable.
const KEPT_FROM_USERS: [u32; 2] = [8, 19];
const LAST_CAPABILITY: u32 = 63;

/// A process to be, checked as far as it can be without running it.
pub struct Command {
    pub argv: Vec<CString>,
    pub env: Vec<CString>,
    pub cwd: CString,
    /// Make the working directory if it is missing, as Docker does for a container's.
    pub create_cwd: bool,
    pub identity: Identity,
    pub no_new_privs: bool,
    pub stdio: Stdio,
    /// What it and all that it will start are known by ([`clawker_proc::mark`]).
    pub mark: u32,
}

/// What becomes of descriptors 0, 1 and 2.
pub enum Stdio {
    /// The container's own; with `terminal` 0 becomes the controlling terminal.
    Inherited { terminal: bool },
    Given {
        stdin: OwnedFd,
        stdout: OwnedFd,
        stderr: OwnedFd,
    },
    /// All three, and the controlling terminal.
    Terminal(OwnedFd),
}

impl Drop for Command {
    /// The environment may hold secrets.
    fn drop(&mut self) {
        use zeroize::Zeroize;
        for entry in self.env.drain(..) {
            entry.into_bytes_with_nul().zeroize();
        }
    }
}

pub struct Spawned {
    pub pid: i32,
    /// At its end without a byte: exec succeeded. Else a [`Failure`].
    pub outcome: OwnedFd,
}

/// Why exec didn't happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub kind: FailureKind,
    pub errno: i32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    NotFound,
    NotExecutable,
    BadCwd,
    Spawn,
}

impl FailureKind {
    /// As in `ExecFailed.kind`.
    pub fn name(self) -> &'static str {
        match self {
            FailureKind::NotFound => "not_found",
            FailureKind::NotExecutable => "not_executable",
            FailureKind::BadCwd => "bad_cwd",
            FailureKind::Spawn => "spawn",
        }
    }

    /// As Docker exits for it.
    pub fn exit_code(self) -> u8 {
        match self {
            FailureKind::NotFound => 127,
            FailureKind::NotExecutable | FailureKind::BadCwd => 126,
            FailureKind::Spawn => 125,
        }
    }
}

impl Failure {
    pub fn message(&self) -> String {
        io::Error::from_raw_os_error(self.errno).to_string()
    }

    pub fn encode(&self) -> [u8; 5] {
        let [a, b, c, d] = self.errno.to_le_bytes();
        [self.kind as u8, a, b, c, d]
    }

    /// From all bytes that came through the outcome pipe; `None` for none.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [kind, a, b, c, d] = bytes else { return None };
        let kind = match kind {
            0 => FailureKind::NotFound,
            1 => FailureKind::NotExecutable,
            2 => FailureKind::BadCwd,
            _ => FailureKind::Spawn,
        };
        Some(Self {
            kind,
            errno: i32::from_le_bytes([*a, *b, *c, *d]),
        })
    }
}

/// Forks. `procs` is `agent`'s `cgroup.procs`; without it the child stays in PID 1's own cgroup.
pub fn spawn(command: &Command, procs: Option<BorrowedFd<'_>>) -> io::Result<Spawned> {
    let (outcome, report) =
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC | rustix::pipe::PipeFlags::NONBLOCK)?;
    let pid = child::fork(|| {
        let failure = prepare_and_exec(command, procs.map(|procs| procs.as_raw_fd()));
        let _ = rustix::io::write(&report, &failure.encode());
        i32::from(failure.kind.exit_code())
    })?;
    Ok(Spawned { pid, outcome })
}

fn prepare_and_exec(command: &Command, procs: Option<RawFd>) -> Failure {
    if let Err(e) = prepare(command, procs) {
        return fail(FailureKind::Spawn, &e);
    }
    let entered = match enter(command) {
        Ok(entered) => entered,
        Err(e) => return fail(FailureKind::BadCwd, &e),
    };
    if let Err(e) = become_user(command) {
        return fail(FailureKind::Spawn, &e);
    }
    if !entered && let Err(e) = rustix::process::chdir(&command.cwd) {
        return fail(FailureKind::BadCwd, &e.into());
    }
    search_and_exec(command)
}

fn prepare(command: &Command, procs: Option<RawFd>) -> io::Result<()> {
    // SAFETY: no pointer but a static byte is passed.
    unsafe {
        libc::setsid();
        if let Some(procs) = procs
            && libc::write(procs, b"0".as_ptr().cast(), 1) != 1
        {
            return Err(io::Error::last_os_error());
        }
    }
    child::fresh_signals()?;
    descriptors::restore();
    // Where the container's limit is lower already, its processes go unmarked.
    let _ = mark::set(command.mark);
    match &command.stdio {
        Stdio::Inherited { terminal: false } => {}
        Stdio::Inherited { terminal: true } => control(0),
        Stdio::Given { stdin, stdout, stderr } => {
            child::place(stdin.as_raw_fd(), 0)?;
            child::place(stdout.as_raw_fd(), 1)?;
            child::place(stderr.as_raw_fd(), 2)?;
        }
        Stdio::Terminal(slave) => {
            for number in 0..3 {
                child::place(slave.as_raw_fd(), number)?;
            }
            control(0);
        }
    }
    // SAFETY: no pointer is passed.
    unsafe {
        libc::umask(0o022);
    }
    let _ = child::close_from(3);
    Ok(())
}

/// Takes the terminal; without one the command still runs, as it would under Docker.
fn control(fd: RawFd) {
    // SAFETY: the argument is a number.
    unsafe {
        libc::ioctl(fd, libc::TIOCSCTTY, 0);
    }
}

/// Whether it is in the working directory; if not, only the user may enter it and has to try.
fn enter(command: &Command) -> io::Result<bool> {
    let first = rustix::process::chdir(&command.cwd);
    if first == Err(rustix::io::Errno::NOENT) && command.create_cwd {
        std::fs::create_dir_all(std::ffi::OsStr::new(
            command
                .cwd
                .to_str()
                .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
        ))?;
        rustix::process::chdir(&command.cwd)?;
        return Ok(true);
    }
    match first {
        Err(rustix::io::Errno::ACCESS) if command.identity.uid != 0 => Ok(false),
        other => Ok(other.map(|()| true)?),
    }
}

fn become_user(command: &Command) -> io::Result<()> {
    let identity = &command.identity;
    let root = identity.uid == 0;
    for capability in 0..=LAST_CAPABILITY {
        // SETPCAP itself goes last: without it nothing else could be dropped. It stays effective until the end.
        let kept = KEPT_FROM_USERS.contains(&capability);
        if (kept || (!root && command.no_new_privs)) && harden::in_bounding(capability).unwrap_or(false) {
            harden::drop_bounding(capability)?;
        }
    }
    let groups: Vec<libc::gid_t> = identity.groups.clone();
    // SAFETY: `groups` lives over the call; the rest are numbers. Raw calls, because libc's would look for threads.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()))?;
        check(libc::syscall(
            libc::SYS_setresgid,
            identity.gid,
            identity.gid,
            identity.gid,
        ))?;
        check(libc::syscall(
            libc::SYS_setresuid,
            identity.uid,
            identity.uid,
            identity.uid,
        ))?;
    }
    harden::clear_ambient().or_else(|e| {
        if e.raw_os_error() == Some(libc::EINVAL) {
            Ok(())
        } else {
            Err(e)
        }
    })?;
    if root {
        let (effective, permitted, _) = harden::capabilities()?;
        let allowed = !KEPT_FROM_USERS.iter().fold(0, |mask, c| mask | 1u64 << c);
        harden::set_capabilities(effective & allowed, permitted & allowed, 0)?;
    } else {
        harden::set_capabilities(0, 0, 0)?;
    }
    if command.no_new_privs {
        harden::no_new_privs()?;
    }
    Ok(())
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// As execvp, in the command's own PATH and without its fallback to a shell.
fn search_and_exec(command: &Command) -> Failure {
    let Some(name) = command.argv.first().filter(|name| !name.is_empty()) else {
        return fail(FailureKind::NotFound, &io::Error::from_raw_os_error(libc::ENOENT));
    };
    if name.as_bytes().contains(&b'/') {
        return fail_exec(&child::exec(name, &command.argv, &command.env));
    }
    let path = command
        .env
        .iter()
        .find_map(|entry| entry.as_bytes().strip_prefix(b"PATH="))
        .unwrap_or_default();
    let mut denied = None;
    for dir in path.split(|b| *b == b':') {
        let dir: &[u8] = if dir.is_empty() { b"." } else { dir };
        let Ok(candidate) = CString::new([dir, b"/", name.as_bytes()].concat()) else {
            continue;
        };
        let error = child::exec(&candidate, &command.argv, &command.env);
        match error.raw_os_error() {
            Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG | libc::ELOOP) => {}
            Some(libc::EACCES) => denied = Some(error),
            _ => return fail_exec(&error),
        }
    }
    fail_exec(&denied.unwrap_or_else(|| io::Error::from_raw_os_error(libc::ENOENT)))
}

fn fail_exec(error: &io::Error) -> Failure {
    let kind = match error.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR) => FailureKind::NotFound,
        Some(libc::E2BIG | libc::ENOMEM | libc::EAGAIN) => FailureKind::Spawn,
        _ => FailureKind::NotExecutable,
    };
    fail(kind, error)
}

fn fail(kind: FailureKind, error: &io::Error) -> Failure {
    Failure {
        kind,
        errno: error.raw_os_error().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_survives_its_pipe_and_nothing_else_is_one() {
        for kind in [
            FailureKind::NotFound,
            FailureKind::NotExecutable,
            FailureKind::BadCwd,
            FailureKind::Spawn,
        ] {
            let failure = Failure { kind, errno: 13 };
            assert_eq!(Failure::decode(&failure.encode()), Some(failure.clone()));
            assert_eq!(Failure::decode(&failure.encode()[..4]), None);
        }
        assert_eq!(Failure::decode(&[]), None);
    }
}
