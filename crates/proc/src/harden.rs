//! What a process takes from itself. Each call is for the calling process (or thread, where the kernel says so).

use std::io;

/// `_LINUX_CAPABILITY_VERSION_3` (include/uapi/linux/capability.h), then pid 0 for the calling thread.
const HEADER: [u32; 2] = [0x2008_0522, 0];

/// No core dump, no ptrace, no `/proc/<pid>/mem` for anybody without CAP_SYS_PTRACE. Reset by exec.
pub fn undumpable() -> io::Result<()> {
    prctl(libc::PR_SET_DUMPABLE, 0).map(drop)
}

pub fn is_dumpable() -> io::Result<bool> {
    Ok(prctl(libc::PR_GET_DUMPABLE, 0)? != 0)
}

/// No exec gains privileges from here on, not by setuid and not by file capabilities.
pub fn no_new_privs() -> io::Result<()> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1).map(drop)
}

/// Signal that the calling process gets when its parent's thread ends.
pub fn parent_death_signal(signo: i32) -> io::Result<()> {
    prctl(libc::PR_SET_PDEATHSIG, libc::c_ulong::try_from(signo).unwrap_or(0)).map(drop)
}

/// The process that adopts orphans below it, as PID 1 does.
pub fn child_subreaper() -> io::Result<()> {
    prctl(libc::PR_SET_CHILD_SUBREAPER, 1).map(drop)
}

/// Takes one capability (its number) from the bounding set, for this process and all it starts.
pub fn drop_bounding(capability: u32) -> io::Result<()> {
    prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability)).map(drop)
}

/// Whether the capability (its number) is in the bounding set; an error for one the kernel doesn't know.
pub fn in_bounding(capability: u32) -> io::Result<bool> {
    Ok(prctl(libc::PR_CAPBSET_READ, libc::c_ulong::from(capability))? == 1)
}

/// Empties the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    // SAFETY: no pointer is passed.
    crate::check(unsafe {
        libc::prctl(
            libc::PR_CAP_AMBIENT,
            libc::PR_CAP_AMBIENT_CLEAR_ALL as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    })
    .map(drop)
}

/// The calling thread's effective, permitted and inheritable sets.
pub fn capabilities() -> io::Result<(u64, u64, u64)> {
    let mut data = [[0u32; 3]; 2];
    let header = HEADER;
    // SAFETY: version 3 reads a header of two u32 and writes two records of three u32; both live over the call.
    let result = unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), data.as_mut_ptr()) };
    crate::check(result as libc::c_int)?;
    let whole = |i: usize| u64::from(data[0][i]) | u64::from(data[1][i]) << 32;
    Ok((whole(0), whole(1), whole(2)))
}

/// Sets the calling thread's effective, permitted and inheritable sets, each a mask of capability numbers.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> io::Result<()> {
    let half = |mask: u64, high: bool| (if high { mask >> 32 } else { mask & 0xffff_ffff }) as u32;
    let data: [[u32; 3]; 2] =
        [false, true].map(|high| [half(effective, high), half(permitted, high), half(inheritable, high)]);
    let header = HEADER;
    // SAFETY: version 3 reads a header of two u32 and two records of three u32; both live over the call.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()) };
    crate::check(result as libc::c_int).map(drop)
}

fn prctl(option: libc::c_int, value: libc::c_ulong) -> io::Result<libc::c_int> {
    let zero: libc::c_ulong = 0;
    // SAFETY: none of the options used here takes a pointer.
    crate::check(unsafe { libc::prctl(option, value, zero, zero, zero) })
}
