//! What was read, judged. Pure.

use super::Finding;
use super::here::{Freezer, Here, Limit};

/// openat2, the youngest call that clawkerd can't be without.
const OLDEST_KERNEL: (u32, u32) = (5, 6);
/// Of 1,024 execs, each with three pipes and two rings.
const OPEN_FILES: u64 = 1024 * 5 + 64;
/// For the session half and an exec of many stages.
const FEWEST_PIDS: u64 = 24;
/// Rings, and as much again as the session half takes.
const LEAST_MEMORY: u64 = 64 * 1024 * 1024;
const MIB: u64 = 1024 * 1024;

/// By their numbers in include/uapi/linux/capability.h.
const NEEDED: [(u32, &str); 2] = [(6, "SETGID"), (7, "SETUID")];
const SETPCAP: (u32, &str) = (8, "SETPCAP");
const WANTED: [(u32, &str); 4] = [(0, "CHOWN"), (1, "DAC_OVERRIDE"), (3, "FOWNER"), (5, "KILL")];
/// What is taken out of the bounding set before a process of the user's begins, which takes SETPCAP.
const KEPT_FROM_USERS: u64 = 1 << 8 | 1 << 19;

pub(super) fn kernel(here: &Here) -> Finding {
    let mut numbers = here.release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= OLDEST_KERNEL => Finding::ok(&here.kernel),
        _ => Finding::degraded(&here.kernel),
    }
}

pub(super) fn first_process(here: &Here) -> Finding {
    if here.pid == 1 {
        return Finding::ok("this is process 1");
    }
    match &here.first {
        Ok(_) if here.is_agent() => Finding::ok("process 1 is clawkerd init"),
        Ok(line) => Finding::degraded(format!("process 1 is `{}`", line.first().map_or("", String::as_str))),
        Err(error) => Finding::degraded(error),
    }
}

pub(super) fn proc(here: &Here) -> Finding {
    let mounts = match &here.mounts {
        Ok(mounts) => mounts,
        Err(error) => return Finding::missing(error),
    };
    // device, point, type, options; the last one lies on top.
    let options = mounts.lines().rev().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind, options) = (fields.next()?, fields.next()?, fields.next()?);
        (point == "/proc" && kind == "proc").then_some(options)
    });
    let Some(options) = options else {
        return Finding::missing("no proc is mounted at /proc");
    };
    let hidden = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    match hidden {
        None | Some("0" | "off") => Finding::ok("mounted, nobody's processes are hidden"),
        Some(how) => Finding::degraded(format!("mounted with hidepid={how}")),
    }
}

pub(super) fn open_files(here: &Here) -> Finding {
    match here.open_files {
        None => Finding::ok("any number"),
        Some(most) if most >= OPEN_FILES => Finding::ok(format!("{most} a process")),
        Some(most) => Finding::degraded(format!("{most} a process, {OPEN_FILES} may be needed")),
    }
}

pub(super) fn pids(here: &Here) -> Finding {
    match here.pids {
        Limit { most: None, .. } => Finding::ok("no limit is shown"),
        Limit { most: Some(most), used } => {
            let used = used.unwrap_or(0);
            let found = format!("{used} of {most}");
            if most.saturating_sub(used) >= FEWEST_PIDS {
                Finding::ok(found)
            } else {
                Finding::degraded(found)
            }
        }
    }
}

pub(super) fn memory(here: &Here) -> Finding {
    let Some(most) = here.memory.most else {
        return Finding::ok("no limit is shown");
    };
    let used = here.memory.used.unwrap_or(0);
    let found = format!("{} of {} MiB", used / MIB, most / MIB);
    if most >= LEAST_MEMORY {
        Finding::ok(found)
    } else {
        Finding::degraded(found)
    }
}

pub(super) fn freezer(here: &Here) -> Finding {
    match here.freezer {
        Freezer::None => Finding::missing("this process's cgroups name none"),
        Freezer::Unseen(version) => Finding::ok(format!("{version}, its files are not shown here")),
        Freezer::Seen {
            version,
            writable: false,
        } => Finding::ok(format!("{version}, not to be written here")),
        Freezer::Seen {
            version,
            writable: true,
        } if here.is_agent() => Finding::degraded(format!("{version}, root in here can thaw itself")),
        Freezer::Seen { version, .. } => Finding::ok(format!("{version}, to be written here")),
    }
}

pub(super) fn oom_count(here: &Here) -> Finding {
    match &here.oom_count {
        Some(path) => Finding::ok(path),
        None => Finding::missing("no count is shown below /sys/fs/cgroup"),
    }
}

pub(super) fn capabilities(here: &Here) -> Finding {
    let whose = if here.is_agent() { "process 1" } else { "this process" };
    let status = match &here.status {
        Ok(status) => status,
        Err(error) => return Finding::missing(error),
    };
    let (Some(effective), Some(bounding)) = (mask(status, "CapEff"), mask(status, "CapBnd")) else {
        return Finding::missing(format!("{whose} has a status without capabilities"));
    };
    let lacks = |(number, _): &&(u32, &str)| effective & (1 << number) == 0;
    let mut needed: Vec<&str> = NEEDED.iter().filter(lacks).map(|(_, name)| *name).collect();
    if bounding & KEPT_FROM_USERS != 0 && lacks(&&SETPCAP) {
        needed.push(SETPCAP.1);
    }
    let wanted: Vec<&str> = WANTED.iter().filter(lacks).map(|(_, name)| *name).collect();
    let all: Vec<&str> = needed.iter().chain(&wanted).copied().collect();
    let found = format!("{whose} lacks {}", all.join(", "));
    match (needed.is_empty(), wanted.is_empty()) {
        (false, _) => Finding::missing(found),
        (true, false) => Finding::degraded(found),
        (true, true) => Finding::ok(format!(
            "{whose} has all that is needed, {} in all",
            effective.count_ones()
        )),
    }
}

pub(super) fn user_namespace(here: &Here) -> Finding {
    let map = match &here.uid_map {
        Ok(map) => map,
        // A kernel without them has only the first one.
        Err(_) => return Finding::ok("the only one"),
    };
    if here
        .setgroups
        .as_deref()
        .is_ok_and(|setgroups| setgroups.trim() == "deny")
    {
        return Finding::missing("one in which nobody sets groups");
    }
    let lines: Vec<Vec<u32>> = map
        .lines()
        .map(|line| line.split_whitespace().filter_map(|n| n.parse().ok()).collect())
        .collect();
    match lines.as_slice() {
        [line] if line.as_slice() == [0, 0, u32::MAX] => Finding::ok("the host's"),
        lines => {
            let ids: u64 = lines
                .iter()
                .filter_map(|line| line.get(2))
                .map(|count| u64::from(*count))
                .sum();
            let outside = lines
                .iter()
                .find(|line| line.first() == Some(&0))
                .and_then(|line| line.get(1));
            let root = outside.map_or("nobody".to_owned(), u32::to_string);
            let found = format!("one with {ids} users, root is {root} outside");
            if ids >= 65_536 {
                Finding::ok(found)
            } else {
                Finding::degraded(found)
            }
        }
    }
}

pub(super) fn seccomp(here: &Here) -> Finding {
    let whose = if here.is_agent() { "process 1" } else { "this process" };
    let status = match &here.status {
        Ok(status) => status,
        Err(error) => return Finding::missing(error),
    };
    let gains = match field(status, "NoNewPrivs") {
        Some("1") => ", gains no privileges",
        _ => "",
    };
    match (field(status, "Seccomp"), field(status, "Seccomp_filters")) {
        (Some("2"), Some(filters)) => Finding::ok(format!("{whose} has {filters} filters{gains}")),
        (Some("2"), None) => Finding::ok(format!("{whose} is filtered{gains}")),
        (Some(_), _) => Finding::degraded(format!("{whose} is not filtered{gains}")),
        (None, _) => Finding::missing("the kernel has none"),
    }
}

pub(super) fn root(here: &Here) -> Finding {
    match writable(here, "/") {
        Err(error) => Finding::degraded(error),
        Ok(Some(false)) => Finding::degraded("read-only"),
        Ok(_) => Finding::ok("can be written to"),
    }
}

pub(super) fn program_dir(here: &Here) -> Finding {
    match writable(here, "/.clawker") {
        Ok(None) if here.program => Finding::ok("put here, not mounted: the engine is elsewhere"),
        other => mounted(other),
    }
}

pub(super) fn run_dir(here: &Here) -> Finding {
    match writable(here, "/.clawker-run") {
        Ok(None) if here.program => Finding::ok("not mounted: the control plane dials"),
        other => mounted(other),
    }
}

fn mounted(writable: Result<Option<bool>, &str>) -> Finding {
    match writable {
        Err(error) => Finding::missing(error),
        Ok(None) => Finding::missing("not mounted"),
        Ok(Some(true)) => Finding::degraded("mounted, and root in here can replace what it holds"),
        Ok(Some(false)) => Finding::ok("mounted read-only"),
    }
}

/// Whether what is mounted there can be written to; `None` for nothing.
fn writable<'h>(here: &'h Here, point: &str) -> Result<Option<bool>, &'h str> {
    let mounts = here.mountinfo.as_ref().map_err(String::as_str)?;
    let top = mounts.iter().rev().find(|mount| mount.point == point);
    Ok(top.map(|mount| !mount.read_only))
}

fn field<'s>(status: &'s str, name: &str) -> Option<&'s str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

fn mask(status: &str, name: &str) -> Option<u64> {
    u64::from_str_radix(field(status, name)?, 16).ok()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
