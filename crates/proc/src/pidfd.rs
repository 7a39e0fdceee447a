//! A process by descriptor, which no reuse of its number can turn into another.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

/// Readable once the process is dead.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// `pidfd_open`; close-on-exec.
    pub fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: no pointer is passed.
        let raw = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        let raw =
            crate::check(raw as libc::c_int).map_err(crate::attempting(format_args!("opening pidfd of {pid}")))?;
        // SAFETY: the kernel gave us a new descriptor that nobody else owns.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(raw) }))
    }

    pub(crate) fn from_owned(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Whether it has not ended yet; a zombie has.
    pub fn is_alive(&self) -> io::Result<bool> {
        Ok(!self.wait(Duration::ZERO)?)
    }

    /// Waits until it is dead; whether it is when `timeout` is over.
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        let mut entry = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let millis = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
        loop {
            // SAFETY: one pollfd, alive over the call.
            match crate::check(unsafe { libc::poll(&raw mut entry, 1, millis) }) {
                Ok(n) => return Ok(n > 0),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }

    /// `pidfd_send_signal`.
    pub fn signal(&self, signo: i32) -> io::Result<()> {
        // SAFETY: a null siginfo is what the call documents as "as kill(2) would".
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signo,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        crate::check(result as libc::c_int).map(drop)
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_pidfd_follows_one_process_from_life_to_death() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep starts");
        let pidfd = PidFd::open(child.id() as i32).expect("it lives");
        assert!(pidfd.is_alive().expect("poll"));
        pidfd.signal(libc::SIGKILL).expect("it is ours");
        assert!(pidfd.wait(Duration::from_secs(5)).expect("poll"), "it did not die");
        // Dead though not reaped yet.
        assert!(!pidfd.is_alive().expect("poll"));
        child.wait().expect("reaped");
        assert!(!pidfd.is_alive().expect("poll"));
        assert_eq!(
            pidfd.signal(libc::SIGKILL).expect_err("gone").raw_os_error(),
            Some(libc::ESRCH)
        );
    }
}
