//! Signals as a descriptor, and as numbers.

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// All signals of the process, blocked and readable one by one. Does not block on reads; close-on-exec.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks every signal of the calling thread and makes them readable here. Call it before any other thread.
    pub fn block_all() -> io::Result<Self> {
        // SAFETY: sigfillset initialises `set`, which lives over the calls.
        let raw = unsafe {
            let mut set: libc::sigset_t = zeroed();
            libc::sigfillset(&raw mut set);
            crate::check(libc::sigprocmask(
                libc::SIG_SETMASK,
                &raw const set,
                std::ptr::null_mut(),
            ))?;
            crate::check(libc::signalfd(
                -1,
                &raw const set,
                libc::SFD_CLOEXEC | libc::SFD_NONBLOCK,
            ))?
        };
        // SAFETY: the kernel gave us a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    /// The next pending signal's number.
    pub fn next(&self) -> io::Result<Option<i32>> {
        // SAFETY: an all-zero siginfo is a valid one, and read writes at most its size.
        let (n, info) = unsafe {
            let mut info: libc::signalfd_siginfo = zeroed();
            let n = libc::read(
                self.0.as_raw_fd(),
                (&raw mut info).cast(),
                size_of::<libc::signalfd_siginfo>(),
            );
            (n, info)
        };
        if n > 0 {
            return Ok(i32::try_from(info.ssi_signo).ok());
        }
        match io::Error::last_os_error() {
            e if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(None),
            e => Err(e),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// In a forked child: every signal unblocked and at its default, as a fresh process has them.
pub fn reset() -> io::Result<()> {
    // SAFETY: `set` is initialised by sigemptyset; SIG_DFL is a valid handler; EINVAL for SIGKILL, SIGSTOP and
    // those that libc keeps is of no interest.
    unsafe {
        for signo in 1..=64 {
            libc::signal(signo, libc::SIG_DFL);
        }
        let mut set: libc::sigset_t = zeroed();
        libc::sigemptyset(&raw mut set);
        crate::check(libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const set,
            std::ptr::null_mut(),
        ))
        .map(drop)
    }
}

/// `kill(2)`: a process, or with a negative number its group. Gone already is `Ok(false)`.
pub fn kill(pid: i32, signo: i32) -> io::Result<bool> {
    if pid == 0 || pid == -1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("pid {pid} would be more than one process or group"),
        ));
    }
    // SAFETY: no pointer is passed.
    match crate::check(unsafe { libc::kill(pid, signo) }) {
        Ok(_) => Ok(true),
        Err(e) if e.raw_os_error() == Some(libc::ESRCH) => Ok(false),
        Err(e) => Err(e),
    }
}

/// Every process that the caller may signal, but itself and PID 1. Only for the PID 1 of a namespace of its own:
/// anywhere else it is refused.
pub fn kill_everybody(signo: i32) -> io::Result<()> {
    if std::process::id() != 1 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "only PID 1 ends everybody else",
        ));
    }
    // SAFETY: no pointer is passed.
    match crate::check(unsafe { libc::kill(-1, signo) }) {
        Err(e) if e.raw_os_error() != Some(libc::ESRCH) => Err(e),
        _ => Ok(()),
    }
}

/// The number of a signal as Docker and people write it: `TERM`, `SIGTERM`, `sigterm`, `15`.
pub fn parse(name: &str) -> Option<i32> {
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("SIG").unwrap_or(&upper);
    NAMES
        .iter()
        .find(|(known, _)| *known == short)
        .map(|(_, number)| *number)
}

const NAMES: &[(&str, i32)] = &[
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ABRT", libc::SIGABRT),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("USR2", libc::SIGUSR2),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("WINCH", libc::SIGWINCH),
    ("PWR", libc::SIGPWR),
    ("RTMIN", 34),
    ("RTMIN+3", 37),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_known_as_people_write_them() {
        for name in ["TERM", "SIGTERM", "sigterm", "15"] {
            assert_eq!(parse(name), Some(15), "{name}");
        }
        assert_eq!(parse("SIGRTMIN+3"), Some(37));
        for bad in ["", "0", "65", "-9", "SIGNOPE"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn kill_never_means_everybody() {
        assert!(kill(0, 0).is_err());
        assert!(kill(-1, 0).is_err());
        assert!(kill_everybody(0).is_err(), "this is not PID 1");
    }
}
