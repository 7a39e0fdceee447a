//! Processes as the kernel sees them: pidfds, waits, signals, `/proc`, cgroups, descriptor passing, memfds.
//!
//! The only crate that knows pidfd, wait and cgroups. Links no C library beyond libc and calls no name service,
//! because PID 1 in an agent's container is built on it too. Everything here blocks at most for a system call, or
//! for a deadline that the caller gives; nothing here decides.

pub mod cgroup;
pub mod confine;
pub mod fdpass;
pub mod harden;
pub mod map;
pub mod mark;
pub mod memfd;
pub mod peer;
pub mod pidfd;
pub mod poll;
pub mod procfs;
pub mod signal;
pub mod wait;

use std::io;

/// The result of a system call that answers -1 on failure.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// The same error, saying what was attempted.
fn attempting(what: impl std::fmt::Display) -> impl FnOnce(io::Error) -> io::Error {
    move |source| io::Error::new(source.kind(), format!("{what}: {source}"))
}
