//! Who is at the other end of a unix socket, by the kernel's word.

use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::pidfd::PidFd;

/// `SO_PEERPIDFD` (include/uapi/asm-generic/socket.h, Linux 6.5); libc names it only on some targets.
const SO_PEERPIDFD: libc::c_int = 77;

/// Credentials of the peer at the time of its `connect`, translated into our namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerCred {
    /// 0 if the peer is in a PID namespace that we don't see.
    pub pid: i32,
    pub uid: u32,
    pub gid: u32,
}

/// `SO_PEERCRED`.
pub fn credentials(fd: BorrowedFd<'_>) -> io::Result<PeerCred> {
    let mut cred = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: `cred` and `len` live over the call and `len` is the size of `cred`.
    crate::check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERCRED,
            (&raw mut cred).cast(),
            &raw mut len,
        )
    })?;
    Ok(PeerCred {
        pid: cred.pid,
        uid: cred.uid,
        gid: cred.gid,
    })
}

/// `SO_PEERGROUPS`: the peer's supplementary groups at the time of its `connect`.
pub fn groups(fd: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // NGROUPS_MAX (include/uapi/linux/limits.h) bounds what the kernel can answer.
    const NGROUPS_MAX: usize = 65_536;
    let mut groups = vec![0 as libc::gid_t; 64];
    loop {
        let mut len = (groups.len() * size_of::<libc::gid_t>()) as libc::socklen_t;
        // SAFETY: `groups` and `len` live over the call and `len` is the size of `groups` in bytes.
        let result = crate::check(unsafe {
            libc::getsockopt(
                fd.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut len,
            )
        });
        let count = len as usize / size_of::<libc::gid_t>();
        match result {
            Ok(_) => {
                groups.truncate(count);
                return Ok(groups);
            }
            // The kernel says how much room it needs.
            Err(e) if e.raw_os_error() == Some(libc::ERANGE) && (groups.len() + 1..=NGROUPS_MAX).contains(&count) => {
                groups.resize(count, 0);
            }
            Err(e) => return Err(e),
        }
    }
}

/// `SO_PEERPIDFD`; `None` if the kernel lacks it. It may succeed for a peer that is already reaped: ask
/// [`PidFd::is_alive`].
pub fn pidfd(fd: BorrowedFd<'_>) -> io::Result<Option<PidFd>> {
    let mut raw: libc::c_int = -1;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `raw` and `len` live over the call and `len` is the size of `raw`.
    let result = crate::check(unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut raw).cast(),
            &raw mut len,
        )
    });
    match result {
        // SAFETY: on success the kernel gave us a new descriptor that nobody else owns.
        Ok(_) => Ok(Some(PidFd::from_owned(unsafe { OwnedFd::from_raw_fd(raw) }))),
        Err(e) if e.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(None),
        Err(e) => Err(e),
    }
}
