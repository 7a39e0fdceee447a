//! What the files of this place say, read once. Nothing here judges.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use clawker_proc::procfs::{self, CgroupLine, Mount};

/// Most bytes of a file that are read.
const MAX_FILE: u64 = 1024 * 1024;
const CGROUPS: &str = "/sys/fs/cgroup";

/// What a file said, or what came of reading it.
pub(super) type Text = Result<String, String>;

/// Everything that [`super::judge`] asks.
#[derive(Debug, Clone)]
pub(super) struct Here {
    pub pid: u32,
    /// `Linux 6.1.0 on x86_64`
    pub kernel: String,
    pub release: String,
    /// The arguments of process 1.
    pub first: Result<Vec<String>, String>,
    /// `/proc/<pid>/status` of process 1 if that is clawkerd, else our own.
    pub status: Text,
    /// `/proc/self/mounts`
    pub mounts: Text,
    /// `/proc/self/mountinfo`
    pub mountinfo: Result<Vec<Mount>, String>,
    pub uid_map: Text,
    pub setgroups: Text,
    /// Descriptors that a process may have; `None` for any number.
    pub open_files: Option<u64>,
    pub pids: Limit,
    pub memory: Limit,
    pub freezer: Freezer,
    /// Where the kernel's count of kills for memory is shown.
    pub oom_count: Option<String>,
    /// Whether clawkerd lies where an agent has it.
    pub program: bool,
}

/// A cgroup's limit, and how much of it is used.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limit {
    /// `None` where the group isn't shown, or has none.
    pub most: Option<u64>,
    pub used: Option<u64>,
}

/// The freeze file of this process's cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Freezer {
    /// `/proc/self/cgroup` names no hierarchy that has one.
    None,
    /// In this hierarchy, `v1` or `v2`, whose files aren't shown here.
    Unseen(&'static str),
    Seen {
        version: &'static str,
        writable: bool,
    },
}

impl Here {
    pub(super) fn look() -> Self {
        let uname = rustix::system::uname();
        let word = |word: &std::ffi::CStr| word.to_string_lossy().into_owned();
        let first = read("/proc/1/cmdline").map(|line| arguments(&line));
        let judged = if is_clawkerd(&first) { "1" } else { "self" };
        let groups = read("/proc/self/cgroup")
            .ok()
            .and_then(|text| procfs::parse_cgroups(&text).ok())
            .unwrap_or_default();
        Self {
            pid: std::process::id(),
            kernel: format!(
                "{} {} on {}",
                word(uname.sysname()),
                word(uname.release()),
                word(uname.machine())
            ),
            release: word(uname.release()),
            first,
            status: read(format!("/proc/{judged}/status")),
            mounts: read("/proc/self/mounts"),
            mountinfo: read("/proc/self/mountinfo")
                .and_then(|text| procfs::parse_mounts(&text).map_err(|error| error.to_string())),
            uid_map: read("/proc/self/uid_map"),
            setgroups: read("/proc/self/setgroups"),
            open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            pids: Limit {
                most: number(&groups, "pids", ["pids.max", "pids.max"]),
                used: number(&groups, "pids", ["pids.current", "pids.current"]),
            },
            memory: Limit {
                most: number(&groups, "memory", ["memory.limit_in_bytes", "memory.max"]),
                used: number(&groups, "memory", ["memory.usage_in_bytes", "memory.current"]),
            },
            freezer: freezer(&groups),
            oom_count: crate::init::oom::shown().map(str::to_owned),
            program: Path::new("/.clawker/clawkerd").exists(),
        }
    }

    /// This is in an agent: its process 1 is clawkerd.
    pub(super) fn is_agent(&self) -> bool {
        is_clawkerd(&self.first)
    }
}

fn is_clawkerd(first: &Result<Vec<String>, String>) -> bool {
    match first.as_deref() {
        Ok([program, verb, ..]) => program.rsplit('/').next() == Some("clawkerd") && verb == "init",
        _ => false,
    }
}

fn arguments(line: &str) -> Vec<String> {
    line.trim_end_matches('\0').split('\0').map(str::to_owned).collect()
}

fn read(path: impl AsRef<Path>) -> Text {
    let path = path.as_ref();
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
        .map_err(|error| format!("reading {}: {error}", path.display()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where a file of our own group may be shown, of v1's name and of v2's. A container that isn't told so has its own
/// group mounted as if it were the whole.
fn places(groups: &[CgroupLine], controller: &str, [v1, v2]: [&str; 2]) -> Vec<(&'static str, PathBuf)> {
    let mut found = Vec::new();
    for line in groups {
        let (version, mounts, file) = match line.hierarchy {
            0 => ("v2", vec![String::new(), "unified".to_owned()], v2),
            _ if line.controllers.iter().any(|one| one == controller) => {
                ("v1", vec![line.controllers.join(","), controller.to_owned()], v1)
            }
            _ => continue,
        };
        for mount in mounts {
            let mount = Path::new(CGROUPS).join(mount);
            let below = line.path.trim_start_matches('/');
            if !below.split('/').any(|part| part == "..") {
                found.push((version, mount.join(below).join(file)));
            }
            found.push((version, mount.join(file)));
        }
    }
    found
}

/// v1's limit of memory is a number even where there is none: the largest that fits, in pages.
const UNLIMITED: u64 = 1 << 62;

fn number(groups: &[CgroupLine], controller: &str, files: [&str; 2]) -> Option<u64> {
    let text = places(groups, controller, files)
        .into_iter()
        .find_map(|(_, path)| read(path).ok())?;
    text.trim().parse().ok().filter(|number| *number < UNLIMITED)
}

fn freezer(groups: &[CgroupLine]) -> Freezer {
    let places = places(groups, "freezer", ["freezer.state", "cgroup.freeze"]);
    let seen = places.iter().find(|(_, path)| path.exists());
    match (seen, places.first()) {
        // Opened, never written to.
        (Some((version, path)), _) => Freezer::Seen {
            version,
            writable: File::options().write(true).open(path).is_ok(),
        },
        (None, Some((version, _))) => Freezer::Unseen(version),
        (None, None) => Freezer::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_1_is_clawkerd_by_its_name_and_its_verb() {
        for (line, expected) in [
            ("/.clawker/clawkerd\0init\0--\0sh\0", true),
            ("clawkerd\0init\0", true),
            ("clawkerd\0doctor\0", false),
            ("/sbin/init\0", false),
            ("xclawkerd\0init\0", false),
            ("", false),
        ] {
            assert_eq!(is_clawkerd(&Ok(arguments(line))), expected, "{line:?}");
        }
        assert!(!is_clawkerd(&Err("no /proc".to_owned())));
    }

    #[test]
    fn a_group_is_looked_for_below_its_path_and_where_a_container_has_it() {
        let groups = procfs::parse_cgroups("4:memory:/docker/ab\n3:cpu,cpuacct:/x\n0::/../y\n").expect("well-formed");
        let paths: Vec<String> = places(&groups, "memory", ["one", "two"])
            .into_iter()
            .map(|(version, path)| format!("{version} {}", path.display()))
            .collect();
        assert_eq!(
            paths,
            [
                "v1 /sys/fs/cgroup/memory/docker/ab/one",
                "v1 /sys/fs/cgroup/memory/one",
                "v1 /sys/fs/cgroup/memory/docker/ab/one",
                "v1 /sys/fs/cgroup/memory/one",
                "v2 /sys/fs/cgroup/two",
                "v2 /sys/fs/cgroup/unified/two",
            ]
        );
        assert!(places(&[], "memory", ["one", "two"]).is_empty());
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = read("/no/such/file").expect_err("missing");
        assert!(error.starts_with("reading /no/such/file: "), "{error}");
    }
}
