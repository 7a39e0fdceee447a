//! An exec's standard input: what was taken and isn't written yet.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::halves::STDIN_WINDOW;

/// `VEOF` of a terminal: its end of input is a character.
const END_OF_TRANSMISSION: u8 = 4;

pub struct Stdin {
    sink: Option<OwnedFd>,
    buffer: VecDeque<u8>,
    taken: u64,
    eof: bool,
    terminal: bool,
}

impl Stdin {
    pub fn new(sink: Option<OwnedFd>, terminal: bool) -> Self {
        // All that it may ever hold; memory that isn't touched costs nothing.
        let window = usize::try_from(STDIN_WINDOW).unwrap_or_default();
        let capacity = if sink.is_some() { window.saturating_add(1) } else { 0 };
        Self {
            buffer: VecDeque::with_capacity(capacity),
            sink,
            taken: 0,
            eof: false,
            terminal,
        }
    }

    pub fn is_open(&self) -> bool {
        self.sink.is_some()
    }

    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// Given to the exec, or dropped because it no longer reads.
    pub fn written(&self) -> u64 {
        self.taken.saturating_sub(self.buffer.len() as u64)
    }

    /// The sink, while there is something for it.
    pub fn poll(&self) -> Option<BorrowedFd<'_>> {
        self.sink.as_ref().filter(|_| !self.buffer.is_empty()).map(AsFd::as_fd)
    }

    /// What was taken before is skipped, so a resumed stream never types twice; what would leave a hole, or go over the
    /// window, is refused with `None`. Whether anything was new.
    pub fn push(&mut self, offset: u64, bytes: &[u8]) -> Option<bool> {
        let end = offset.checked_add(bytes.len() as u64)?;
        if self.eof || end <= self.taken {
            return Some(false);
        }
        let known = usize::try_from(self.taken.checked_sub(offset)?).ok()?;
        let new = bytes.get(known..)?;
        if (self.buffer.len() as u64).saturating_add(new.len() as u64) > STDIN_WINDOW {
            return None;
        }
        self.taken = end;
        if self.sink.is_some() {
            self.buffer.extend(new);
            self.write();
        }
        Some(true)
    }

    /// Nothing more will come. Whether anything changed.
    pub fn end(&mut self) -> bool {
        if self.terminal && !self.eof && self.sink.is_some() {
            self.buffer.push_back(END_OF_TRANSMISSION);
        }
        self.eof = true;
        self.write()
    }

    /// As much as the sink takes. Whether anything changed.
    pub fn write(&mut self) -> bool {
        let Some(sink) = &self.sink else {
            self.buffer.clear();
            return false;
        };
        let mut changed = false;
        while !self.buffer.is_empty() {
            match rustix::io::write(sink, self.buffer.as_slices().0) {
                Ok(n) => {
                    self.buffer.drain(..n.min(self.buffer.len()));
                    changed = true;
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return changed,
                Err(_) => return self.close(),
            }
        }
        if self.eof && !self.terminal {
            return self.close();
        }
        changed
    }

    /// The exec gets no more.
    pub fn close(&mut self) -> bool {
        self.buffer = VecDeque::new();
        self.sink.take().is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;

    fn stdin() -> (std::io::PipeReader, Stdin) {
        let (read, write) = std::io::pipe().expect("pipe");
        rustix::io::ioctl_fionbio(&write, true).expect("set");
        (read, Stdin::new(Some(write.into()), false))
    }

    #[test]
    fn nothing_is_typed_twice_and_nothing_leaves_a_hole() {
        let (mut read, mut stdin) = stdin();
        assert_eq!(stdin.push(0, b"abc"), Some(true));
        assert_eq!(stdin.push(1, b"bcd"), Some(true));
        assert_eq!(stdin.push(0, b"abcd"), Some(false));
        assert_eq!(stdin.push(5, b"f"), None, "a hole");
        assert_eq!(stdin.push(u64::MAX, b"f"), None);
        assert!(stdin.end(), "closed");
        assert_eq!(stdin.push(4, b"late"), Some(false));
        let mut got = String::new();
        read.read_to_string(&mut got).expect("text");
        assert_eq!((got.as_str(), stdin.taken(), stdin.written()), ("abcd", 4, 4));
    }

    #[test]
    fn no_more_than_the_window_is_kept_for_one_that_does_not_read() {
        let (_read, mut stdin) = stdin();
        let chunk = vec![0; 32 * 1024];
        let mut at = 0;
        while stdin.push(at, &chunk) == Some(true) {
            at += chunk.len() as u64;
        }
        // What the pipe holds is written, the rest is kept.
        assert!(stdin.taken() - stdin.written() <= STDIN_WINDOW);
        assert!(at > STDIN_WINDOW && at < 4 * STDIN_WINDOW, "{at}");
    }

    #[test]
    fn the_end_of_one_that_reads_no_more_drops_what_is_left() {
        let (read, mut stdin) = stdin();
        drop(read);
        stdin.push(0, b"x");
        assert!(stdin.poll().is_none());
        assert_eq!(stdin.written(), stdin.taken());
    }
}
