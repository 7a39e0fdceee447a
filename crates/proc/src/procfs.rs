//! What `/proc` says of a process. The parsers are pure; a field that is missing or malformed is an error that
//! names it, never a default.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

/// `PF_EXITING` (include/linux/sched.h), in the flags of `/proc/<pid>/stat`.
const PF_EXITING: u64 = 0x4;

/// One line of `/proc/<pid>/cgroup`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupLine {
    /// 0 is the unified hierarchy (v2).
    pub hierarchy: u32,
    /// Empty for v2; a named one is `name=systemd`.
    pub controllers: Vec<String>,
    pub path: String,
}

/// The fields of `/proc/<pid>/stat` that we use, by their names in proc(5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub pid: i32,
    /// May hold spaces and parentheses: it is the process's own choice.
    pub comm: String,
    pub state: char,
    pub ppid: i32,
    pub pgrp: i32,
    pub session: i32,
    pub flags: u64,
    /// Clock ticks since boot.
    pub start_time: u64,
}

/// A process's memory, in KiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemInfo {
    pub rss_kib: u64,
    pub pss_kib: u64,
}

/// One line of `/proc/<pid>/mountinfo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// Which folder of its filesystem it shows.
    pub root: String,
    /// Where it is, as the process sees it; octal escapes as the kernel writes them.
    pub point: String,
    /// The mount itself, whatever its filesystem is.
    pub read_only: bool,
}

/// Everything that is mounted where the process is.
pub fn mounts(pid: i32) -> io::Result<Vec<Mount>> {
    parse_mounts(&read(pid, "mountinfo")?)
}

/// Its pids from our namespace inwards; the last is its own.
pub fn ns_pids(pid: i32) -> io::Result<Vec<i32>> {
    parse_ns_pids(&read(pid, "status")?)
}

/// Start time in clock ticks since boot: with the pid and the boot id it names one process for ever.
pub fn start_time(pid: i32) -> io::Result<u64> {
    Ok(stat(pid)?.start_time)
}

/// The kernel's boot id.
pub fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

/// Pid of the process that traces it; 0 for none.
pub fn tracer_pid(pid: i32) -> io::Result<i32> {
    parse_tracer_pid(&read(pid, "status")?)
}

/// Its cgroups, one line a hierarchy, as seen from our cgroup namespace.
pub fn cgroups(pid: i32) -> io::Result<Vec<CgroupLine>> {
    parse_cgroups(&read(pid, "cgroup")?)
}

/// Whether it is on its way out; on v1 it may stay so for as long as a frozen child lives.
pub fn exiting(pid: i32) -> io::Result<bool> {
    Ok(stat(pid)?.flags & PF_EXITING != 0)
}

/// Its network namespace, as setns takes it.
pub fn open_netns(pid: i32) -> io::Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/net");
    fs::File::open(&path)
        .map(OwnedFd::from)
        .map_err(crate::attempting(format_args!("opening {path}")))
}

pub fn stat(pid: i32) -> io::Result<Stat> {
    parse_stat(&read(pid, "stat")?)
}

/// Every process in our PID namespace. One that comes or goes meanwhile may be in it or not.
pub fn pids() -> io::Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in fs::read_dir("/proc")? {
        if let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Every process in our PID namespace with its state, except those that are gone before they can be read.
pub fn all() -> io::Result<Vec<Stat>> {
    Ok(pids()?.into_iter().filter_map(|pid| stat(pid).ok()).collect())
}

/// `root` and all below it by parent, in `all`.
pub fn descendants(all: &[Stat], root: i32) -> Vec<i32> {
    let mut found = vec![root];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        next += 1;
        for process in all {
            if process.ppid == parent && !found.contains(&process.pid) {
                found.push(process.pid);
            }
        }
    }
    found
}

/// Memory from `smaps_rollup`.
pub fn memory(pid: i32) -> io::Result<MemInfo> {
    let text = read(pid, "smaps_rollup")?;
    Ok(MemInfo {
        rss_kib: kib_field(&text, "Rss")?,
        pss_kib: kib_field(&text, "Pss")?,
    })
}

/// Proportional set size in KiB.
pub fn pss_kib(pid: i32) -> io::Result<u64> {
    Ok(memory(pid)?.pss_kib)
}

pub(crate) fn read(pid: i32, file: &str) -> io::Result<String> {
    let path = format!("/proc/{pid}/{file}");
    let bytes = fs::read(&path).map_err(crate::attempting(format_args!("reading {path}")))?;
    // A process may put any bytes into its name; none of the fields that we use lies there.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

pub(crate) fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} is missing or malformed"))
}

/// A line ends with a newline and nothing else: a carriage return before it is part of a name, which is another one then.
fn kernel_lines(text: &str) -> impl Iterator<Item = &str> {
    text.split_terminator('\n')
}

fn field<'a>(text: &'a str, name: &str) -> io::Result<&'a str> {
    text.lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
        .ok_or_else(|| malformed(name))
}

fn kib_field(text: &str, name: &str) -> io::Result<u64> {
    let value = field(text, name)?;
    value
        .strip_suffix("kB")
        .and_then(|n| n.trim().parse().ok())
        .ok_or_else(|| malformed(name))
}

/// From the text of `/proc/<pid>/status`.
pub fn parse_ns_pids(status: &str) -> io::Result<Vec<i32>> {
    let pids: Option<Vec<i32>> = field(status, "NSpid")?
        .split_whitespace()
        .map(|n| n.parse().ok())
        .collect();
    pids.filter(|pids| !pids.is_empty()).ok_or_else(|| malformed("NSpid"))
}

/// From the text of `/proc/<pid>/status`.
pub fn parse_tracer_pid(status: &str) -> io::Result<i32> {
    field(status, "TracerPid")?.parse().map_err(|_| malformed("TracerPid"))
}

/// From the text of `/proc/<pid>/cgroup`.
pub fn parse_cgroups(text: &str) -> io::Result<Vec<CgroupLine>> {
    kernel_lines(text)
        .map(|line| {
            let mut parts = line.splitn(3, ':');
            let (Some(hierarchy), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(malformed("a cgroup line"));
            };
            Ok(CgroupLine {
                hierarchy: hierarchy.parse().map_err(|_| malformed("a cgroup line's hierarchy"))?,
                controllers: controllers
                    .split(',')
                    .filter(|c| !c.is_empty())
                    .map(str::to_owned)
                    .collect(),
                path: path.to_owned(),
            })
        })
        .collect()
}

/// From the text of `/proc/<pid>/stat`. The name ends at the last `)`, whatever it holds.
pub fn parse_stat(text: &str) -> io::Result<Stat> {
    let (open, close) = match (text.find('('), text.rfind(')')) {
        (Some(open), Some(close)) if open < close => (open, close),
        _ => return Err(malformed("the name in stat")),
    };
    let rest: Vec<&str> = text[close + 1..].split_whitespace().collect();
    // proc(5) counts from 1; the state is field 3 and the first after the name.
    let number = |index: usize, name: &str| -> io::Result<u64> {
        rest.get(index - 3)
            .and_then(|n| n.parse().ok())
            .ok_or_else(|| malformed(name))
    };
    let pid =
        |index: usize, name: &str| number(index, name).and_then(|n| i32::try_from(n).map_err(|_| malformed(name)));
    Ok(Stat {
        pid: text[..open].trim().parse().map_err(|_| malformed("the pid in stat"))?,
        comm: text[open + 1..close].to_owned(),
        state: rest
            .first()
            .and_then(|s| s.chars().next())
            .ok_or_else(|| malformed("the state in stat"))?,
        ppid: pid(4, "ppid in stat")?,
        pgrp: pid(5, "pgrp in stat")?,
        session: pid(6, "session in stat")?,
        flags: number(9, "flags in stat")?,
        start_time: number(22, "starttime in stat")?,
    })
}

#[cfg(test)]
#[path = "procfs_tests.rs"]
mod tests;

/// Fields 4 to 6 of each line are the root, the mount point and the mount's own options (proc(5)).
pub fn parse_mounts(mountinfo: &str) -> io::Result<Vec<Mount>> {
    let malformed = || {
        io::Error::new(
            io::ErrorKind::InvalidData,
            "mountinfo: a line without root, mount point and options",
        )
    };
    kernel_lines(mountinfo)
        .map(|line| {
            let mut fields = line.split(' ').skip(3);
            let root = fields.next().ok_or_else(malformed)?;
            let (point, options) = fields.next().zip(fields.next()).ok_or_else(malformed)?;
            Ok(Mount {
                root: root.to_owned(),
                point: point.to_owned(),
                read_only: options.split(',').any(|option| option == "ro"),
            })
        })
        .collect()
}
