//! Waiting for descriptors without an allocation, once the set has been as large as it gets.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use rustix::event::PollFlags;

/// Descriptors to wait for, each with what it means to the caller. Filled anew for each wait.
#[derive(Debug)]
pub struct PollSet<T> {
    fds: Vec<libc::pollfd>,
    tokens: Vec<T>,
}

impl<T> Default for PollSet<T> {
    fn default() -> Self {
        Self {
            fds: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

impl<T: Copy> PollSet<T> {
    pub fn clear(&mut self) {
        self.fds.clear();
        self.tokens.clear();
    }

    pub fn push(&mut self, fd: BorrowedFd<'_>, flags: PollFlags, token: T) {
        self.fds.push(libc::pollfd {
            // Kept as a number: one that is closed before the wait is reported as such by the kernel, and harms nobody.
            fd: fd.as_raw_fd(),
            events: flags.bits().cast_signed(),
            revents: 0,
        });
        self.tokens.push(token);
    }

    /// Until one is ready, the time is over, or a signal came.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let count = self.fds.len() as libc::nfds_t;
        // SAFETY: the array holds `count` entries and lives over the call, like the timeout; no mask is passed.
        let result = unsafe { libc::ppoll(self.fds.as_mut_ptr(), count, &raw const timeout, std::ptr::null()) };
        crate::check(result).map(drop).or_else(|error| {
            // What stands in the answers is from before.
            for fd in &mut self.fds {
                fd.revents = 0;
            }
            match error.kind() {
                io::ErrorKind::Interrupted => Ok(()),
                _ => Err(error),
            }
        })
    }

    pub fn len(&self) -> usize {
        self.fds.len()
    }

    pub fn is_empty(&self) -> bool {
        self.fds.is_empty()
    }

    /// The token of this entry, if its descriptor is ready, at its end or of no use.
    pub fn ready(&self, index: usize) -> Option<T> {
        let fd = self.fds.get(index)?;
        (fd.revents != 0).then(|| self.tokens.get(index).copied()).flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn only_what_is_ready_is_answered_and_the_end_of_a_pipe_is_too() {
        let (quiet, _held) = std::io::pipe().expect("pipe");
        let (loud, mut writer) = std::io::pipe().expect("pipe");
        let (ended, gone) = std::io::pipe().expect("pipe");
        drop(gone);
        writer.write_all(b"x").expect("room");
        let mut set = PollSet::default();
        for _ in 0..2 {
            set.clear();
            for (fd, token) in [(quiet.as_fd(), 'q'), (loud.as_fd(), 'l'), (ended.as_fd(), 'e')] {
                set.push(fd, PollFlags::IN, token);
            }
            set.wait(Duration::from_secs(5)).expect("waited");
            let ready: String = (0..set.len()).filter_map(|index| set.ready(index)).collect();
            assert_eq!(ready, "le");
        }
        assert_eq!(set.ready(3), None);
    }

    #[test]
    fn the_time_ends_the_wait() {
        let mut set = PollSet::<()>::default();
        set.wait(Duration::from_millis(1)).expect("waited");
        assert!(set.is_empty());
    }
}
