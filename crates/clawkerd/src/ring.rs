//! One stream of an exec's output, in memory that both halves map.
//!
//! PID 1 writes; the session half reads and says how far it is done. Offsets count from the exec's first byte and
//! never go back. Counter 0 of the mapping is `head` (all below is written), counter 1 `tail` (all at and above is
//! still there). PID 1 raises `tail` before it overwrites, so a reader that finds `tail` unmoved after a copy has
//! whole bytes.
//!
//! ```text
//!       tail            head
//!  -------|===============|---------- offsets; data stands at offset % capacity
//! ```

#![cfg_attr(
    not(test),
    deny(
        clippy::arithmetic_side_effects,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::panic,
        clippy::unwrap_used
    )
)]

use std::io;
use std::ops::Range;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::atomic::Ordering;

use clawker_proc::map::{HEADER, Mapping};
use clawker_proc::memfd;

const HEAD: usize = 0;
const TAIL: usize = 1;

/// Most bytes that one read takes, so that no stream starves another.
const CHUNK: u64 = 64 * 1024;

/// Where a ring stands; pure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor {
    capacity: u64,
    head: u64,
    tail: u64,
}

impl Cursor {
    /// `capacity` must not be 0.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.max(1) as u64,
            head: 0,
            tail: 0,
        }
    }

    pub fn head(&self) -> u64 {
        self.head
    }

    pub fn tail(&self) -> u64 {
        self.tail
    }

    pub fn is_full(&self) -> bool {
        self.kept() == self.capacity
    }

    /// Where the next bytes go: contiguous, at most a chunk, empty when full.
    pub fn writable(&self) -> Range<usize> {
        let room = self.capacity.saturating_sub(self.kept());
        place(self.head, room.min(CHUNK), self.capacity)
    }

    fn kept(&self) -> u64 {
        self.head.saturating_sub(self.tail)
    }

    /// Gives up the oldest bytes when full, a quarter at most.
    pub fn make_room(&mut self) {
        if self.is_full() {
            let given_up = (self.capacity / 4).clamp(1, CHUNK);
            self.tail = self.tail.saturating_add(given_up);
        }
    }

    /// `n` bytes were written at the start of [`Self::writable`].
    pub fn wrote(&mut self, n: usize) {
        self.head = self.head.saturating_add(n as u64);
        debug_assert!(self.kept() <= self.capacity);
    }

    /// Everything below `offset` is no longer needed. What wasn't written yet can't be consumed, and what is gone
    /// stays gone. Whether anything was freed.
    pub fn consumed(&mut self, offset: u64) -> bool {
        let before = self.tail;
        self.tail = offset.clamp(self.tail, self.head);
        self.tail != before
    }
}

/// What a reader at `at` should copy: the offset where it really begins (later than `at` if bytes are lost) and the
/// range in the data, contiguous and at most `max` long.
pub fn readable(at: u64, head: u64, tail: u64, capacity: u64, max: usize) -> (u64, Range<usize>) {
    let from = at.clamp(tail.min(head), head);
    let len = head.saturating_sub(from).min(max as u64);
    (from, place(from, len, capacity))
}

/// Where the byte at `offset` stands, with at most `len` that follow it without a break.
fn place(offset: u64, len: u64, capacity: u64) -> Range<usize> {
    let start = offset.checked_rem(capacity).unwrap_or_default();
    let end = start.saturating_add(len).min(capacity);
    start as usize..end as usize
}

/// PID 1's end.
#[derive(Debug)]
pub struct Writer {
    fd: OwnedFd,
    map: Mapping,
    cursor: Cursor,
}

impl Writer {
    pub fn new(capacity: usize) -> io::Result<Self> {
        use std::os::fd::AsFd;
        let fd = memfd::sized("clawker-ring", HEADER.saturating_add(capacity) as u64)?;
        let map = Mapping::writable(fd.as_fd(), capacity)?;
        Ok(Self {
            fd,
            map,
            cursor: Cursor::new(capacity),
        })
    }

    pub fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    pub fn capacity(&self) -> usize {
        self.map.data_len()
    }

    /// Bytes of its data that are memory by now: what was written once stays.
    pub fn touched(&self) -> usize {
        usize::try_from(self.cursor.head)
            .unwrap_or(usize::MAX)
            .min(self.capacity())
    }

    pub fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    /// One read of `source` into the ring; 0 is its end. With `lossy` a full ring gives up its oldest bytes, else it
    /// must not be full.
    pub fn fill(&mut self, source: BorrowedFd<'_>, lossy: bool) -> io::Result<usize> {
        let n = if lossy && self.cursor.is_full() {
            self.replace(source)?
        } else {
            let range = self.cursor.writable();
            self.map.read_from(source, range.start, range.len())?
        };
        self.cursor.wrote(n);
        self.publish();
        Ok(n)
    }

    /// One byte into a full ring, if there is one: nothing is given up for the end of the source.
    fn replace(&mut self, source: BorrowedFd<'_>) -> io::Result<usize> {
        let mut byte = [0];
        let n = rustix::io::read(source, &mut byte)?;
        if n > 0 {
            self.cursor.make_room();
            self.publish();
            self.map.copy_in(self.cursor.writable().start, &byte);
        }
        Ok(n)
    }

    pub fn consumed(&mut self, offset: u64) -> bool {
        let freed = self.cursor.consumed(offset);
        self.publish();
        freed
    }

    fn publish(&self) {
        self.map.counter(TAIL).store(self.cursor.tail, Ordering::SeqCst);
        self.map.counter(HEAD).store(self.cursor.head, Ordering::SeqCst);
    }
}

/// The session half's end.
#[derive(Debug)]
pub struct Reader {
    map: Mapping,
}

/// What [`Reader::read`] found.
#[derive(Debug, PartialEq, Eq)]
pub struct Chunk {
    /// Offset of the first byte; later than asked if bytes are lost.
    pub from: u64,
    pub bytes: Vec<u8>,
}

impl Reader {
    pub fn new(fd: BorrowedFd<'_>, capacity: usize) -> io::Result<Self> {
        Ok(Self {
            map: Mapping::read_only(fd, capacity)?,
        })
    }

    pub fn capacity(&self) -> u64 {
        self.map.data_len() as u64
    }

    /// First offset that is still there.
    pub fn tail(&self) -> u64 {
        self.map.counter(TAIL).load(Ordering::SeqCst)
    }

    /// Whole bytes from `at` on, at most `max`; empty when there are none yet.
    pub fn read(&self, at: u64, max: usize) -> Chunk {
        loop {
            let head = self.map.counter(HEAD).load(Ordering::SeqCst);
            let capacity = self.map.data_len() as u64;
            let (from, range) = readable(at, head, self.tail(), capacity, max);
            let mut bytes = vec![0; range.len()];
            self.map.copy_out(range.start, &mut bytes);
            if self.tail() <= from {
                return Chunk { from, bytes };
            }
        }
    }
}

#[cfg(test)]
#[path = "ring_tests.rs"]
mod tests;
