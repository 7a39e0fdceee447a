//! Shared memory: a memfd mapped by two processes, one of which only reads.
//!
//! The first page holds counters, the rest bytes. The two processes are outside each other's memory model: a reader
//! must learn from the counters whether what it copied was whole.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::AtomicU64;

/// Bytes in front of the data, for counters.
pub const HEADER: usize = 4096;

/// A mapping of a whole memfd of at least [`HEADER`] bytes.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    writable: bool,
}

// SAFETY: the mapping belongs to this value alone within the process; shared access is by atomics and copies.
unsafe impl Send for Mapping {}
// SAFETY: as above; through a shared reference there are only atomics and copies out.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `data` bytes after the header, readable and writable.
    pub fn writable(fd: BorrowedFd<'_>, data: usize) -> io::Result<Self> {
        Self::map(fd, data, true)
    }

    /// `data` bytes after the header, read-only by the kernel's word.
    pub fn read_only(fd: BorrowedFd<'_>, data: usize) -> io::Result<Self> {
        Self::map(fd, data, false)
    }

    fn map(fd: BorrowedFd<'_>, data: usize, writable: bool) -> io::Result<Self> {
        let len = HEADER + data;
        let size = rustix::fs::fstat(fd)?.st_size;
        if u64::try_from(size).unwrap_or(0) < len as u64 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("mapping {len} bytes of a memfd of {size}"),
            ));
        }
        let protection = libc::PROT_READ | if writable { libc::PROT_WRITE } else { 0 };
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory of ours.
        let start = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                protection,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        match NonNull::new(start.cast()) {
            Some(start) => Ok(Self { start, len, writable }),
            None => Err(io::Error::other("mapping at address 0")),
        }
    }

    /// Bytes after the header.
    pub fn data_len(&self) -> usize {
        self.len - HEADER
    }

    /// The counter of this number in the header.
    pub fn counter(&self, index: usize) -> &AtomicU64 {
        assert!(index < HEADER / 8, "counter {index} lies beyond the header");
        // SAFETY: inside the mapping, aligned (the mapping is page-aligned), and only ever touched as an atomic.
        unsafe { &*self.start.as_ptr().cast::<AtomicU64>().add(index) }
    }

    /// Copies data out. The other process may be writing there meanwhile: the caller must ask the counters after.
    pub fn copy_out(&self, offset: usize, out: &mut [u8]) {
        assert!(offset + out.len() <= self.data_len(), "copy beyond the mapping");
        // SAFETY: inside the mapping by the check above, and `out` is ours.
        unsafe {
            std::ptr::copy_nonoverlapping(self.start.as_ptr().add(HEADER + offset), out.as_mut_ptr(), out.len());
        }
    }

    /// Copies data in.
    pub fn copy_in(&mut self, offset: usize, bytes: &[u8]) {
        assert!(
            self.writable && offset + bytes.len() <= self.data_len(),
            "copy beyond the mapping"
        );
        // SAFETY: inside the mapping by the check above, which is writable.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start.as_ptr().add(HEADER + offset), bytes.len());
        }
    }

    /// `read(2)` from `fd` straight into the data; 0 is the end.
    pub fn read_from(&mut self, fd: BorrowedFd<'_>, offset: usize, max: usize) -> io::Result<usize> {
        assert!(
            self.writable && offset + max <= self.data_len(),
            "read beyond the mapping"
        );
        // SAFETY: the kernel writes at most `max` bytes inside the mapping, which is writable.
        let n = unsafe { libc::read(fd.as_raw_fd(), self.start.as_ptr().add(HEADER + offset).cast(), max) };
        usize::try_from(n).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: exactly the mapping that `map` made; no reference into it outlives `self`.
        unsafe {
            libc::munmap(self.start.as_ptr().cast(), self.len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::sync::atomic::Ordering;

    #[test]
    fn what_one_side_writes_the_other_reads() {
        let fd = crate::memfd::sized("ring", (HEADER + 64) as u64).expect("memfd");
        let mut writer = Mapping::writable(fd.as_fd(), 64).expect("mapped");
        let reader = Mapping::read_only(fd.as_fd(), 64).expect("mapped");
        writer.copy_in(60, b"tail");
        writer.counter(1).store(7, Ordering::Release);
        let mut got = [0; 4];
        reader.copy_out(60, &mut got);
        assert_eq!(&got, b"tail");
        assert_eq!(reader.counter(1).load(Ordering::Acquire), 7);
        assert!(Mapping::read_only(fd.as_fd(), 65).is_err(), "longer than the memfd");
    }
}
