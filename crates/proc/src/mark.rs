//! A number that a process and all its descendants carry, whatever sessions, groups and parents they choose.
//!
//! It stands in RLIMIT_LOCKS, which the kernel keeps, inherits over fork and exec and shows in `/proc/<pid>/limits`,
//! but has enforced nothing by since 2.4.25 (getrlimit(2)). A process can only lower its own: one that wants to hide
//! can, so a mark finds what got away and confines nobody.

use std::io;

use crate::procfs;

/// Marks the calling process, and with it all that it will start. Fails where its limit is lower already.
pub fn set(mark: u32) -> io::Result<()> {
    let limit = libc::rlimit {
        rlim_cur: mark.into(),
        rlim_max: mark.into(),
    };
    // SAFETY: the struct lives over the call.
    crate::check(unsafe { libc::setrlimit(libc::RLIMIT_LOCKS, &raw const limit) }).map(drop)
}

/// The mark of a process; `None` for one without.
pub fn of(pid: i32) -> io::Result<Option<u32>> {
    parse(&procfs::read(pid, "limits")?)
}

/// From the text of `/proc/<pid>/limits`.
pub fn parse(limits: &str) -> io::Result<Option<u32>> {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max file locks"))
        .ok_or_else(|| procfs::malformed("Max file locks"))?;
    let mut fields = line.split_whitespace();
    // The hard limit: the soft one may be anything below.
    let hard = fields.nth(1).ok_or_else(|| procfs::malformed("Max file locks"))?;
    Ok(hard.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNMARKED: &str = "Limit                     Soft Limit           Hard Limit           Units     \n\
         Max cpu time              unlimited            unlimited            seconds   \n\
         Max file locks            unlimited            unlimited            locks     \n";

    #[test]
    fn a_mark_is_the_hard_limit_and_most_processes_have_none() {
        assert_eq!(parse(UNMARKED).expect("well-formed"), None);
        let marked = UNMARKED.replace(
            "locks            unlimited            unlimited",
            "locks            3   41",
        );
        assert_eq!(parse(&marked).expect("well-formed"), Some(41));
        assert!(parse("Max cpu time 1 1").is_err());
        assert!(of(std::process::id().cast_signed()).is_ok());
    }

    #[test]
    fn a_mark_goes_to_the_children_of_a_session_of_their_own() {
        use std::os::unix::process::CommandExt;
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "setsid sh -c 'grep locks /proc/self/limits'"]);
        // SAFETY: one system call between fork and exec.
        unsafe {
            command.pre_exec(|| set(12345));
        }
        let output = command.output().expect("runs");
        assert_eq!(
            parse(&String::from_utf8_lossy(&output.stdout)).expect("well-formed"),
            Some(12345)
        );
    }
}
