//! How processes ended. Whoever calls [`any`] owns every child of the process.

use std::io;

/// The end of a process, from its wait status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
}

impl Ended {
    /// As a shell gives it: the code, or 128 and the signal.
    pub fn shell_code(self) -> i32 {
        match self {
            Ended::Exited(code) => code,
            Ended::Signaled(signo) => 128 + signo,
        }
    }
}

/// Reaps one child that has ended, whichever; never blocks. `None` if none has, or there is none at all.
pub fn any() -> io::Result<Option<(i32, Ended)>> {
    loop {
        let mut status = 0;
        // SAFETY: `status` lives over the call.
        match crate::check(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) }) {
            Ok(0) => return Ok(None),
            Ok(pid) if libc::WIFEXITED(status) => return Ok(Some((pid, Ended::Exited(libc::WEXITSTATUS(status))))),
            Ok(pid) if libc::WIFSIGNALED(status) => return Ok(Some((pid, Ended::Signaled(libc::WTERMSIG(status))))),
            Ok(_) => {}
            Err(e) if e.raw_os_error() == Some(libc::ECHILD) => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}
