//! What a process of ours gives up before it touches what somebody else wrote: its user, its network.
//!
//! Process-wide: call before the process has threads, or through the C library's wrappers, which tell every thread.

use std::io;

/// The user and group that own nothing (`nobody`, `nogroup`).
pub const NOBODY: u32 = 65_534;

/// A network namespace of its own, without an interface that is up; and no System V IPC with anybody.
pub fn leave_network() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    crate::check(unsafe { libc::unshare(libc::CLONE_NEWNET | libc::CLONE_NEWIPC) })
        .map(drop)
        .map_err(crate::attempting("leaving the network"))
}

/// Becomes [`NOBODY`] for good, in no other group. Needs the right to; the capabilities are gone with the user.
pub fn become_nobody() -> io::Result<()> {
    // SAFETY: a list of no groups has no pointer that is read.
    crate::check(unsafe { libc::setgroups(0, std::ptr::null()) }).map_err(crate::attempting("leaving all groups"))?;
    // SAFETY: no pointer is passed.
    crate::check(unsafe { libc::setresgid(NOBODY, NOBODY, NOBODY) })
        .map_err(crate::attempting("becoming the group `nogroup`"))?;
    // SAFETY: no pointer is passed.
    crate::check(unsafe { libc::setresuid(NOBODY, NOBODY, NOBODY) })
        .map(drop)
        .map_err(crate::attempting("becoming the user `nobody`"))
}

/// Closes every descriptor but the three of standard input and output. For the first moment of a program, when nothing
/// in it has opened one: what is there was left open by whoever started it.
pub fn close_inherited() -> io::Result<()> {
    // SAFETY: no pointer is passed, and no descriptor is anybody's yet.
    crate::check(unsafe { libc::close_range(3, libc::c_uint::MAX, 0) })
        .map(drop)
        .map_err(crate::attempting("closing inherited descriptors"))
}
