//! The one cgroup path that a container of a given id may have. Equality is the test: a prefix or a suffix would let
//! a nested container pass for the one around it.

use crate::procfs::CgroupLine;

/// How Docker makes cgroups (`docker info`, Cgroup Driver).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driver {
    Cgroupfs,
    Systemd,
}

/// The v1 controllers in which runc makes a cgroup for every container, where they are mounted
/// (libcontainer/cgroups/fs, `subsystems`). Younger ones are left out, because older runcs don't know them.
const CONTROLLERS: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "memory",
    "name=systemd",
    "pids",
];

/// `/docker/<id>` or `/system.slice/docker-<id>.scope`; `parent` is the daemon's own default when it has one.
pub fn expected_path(driver: Driver, parent: Option<&str>, container_id: &str) -> String {
    match driver {
        Driver::Cgroupfs => {
            let parent = parent.unwrap_or("/docker").trim_matches('/');
            if parent.is_empty() {
                format!("/{container_id}")
            } else {
                format!("/{parent}/{container_id}")
            }
        }
        Driver::Systemd => {
            let slice = expand_slice(parent.unwrap_or("system.slice"));
            format!("{slice}/docker-{container_id}.scope")
        }
    }
}

/// Whether a process with these lines is in the container whose path is `expected`: on v1 in every controller that
/// Docker makes, the freezer among them; else by the v2 line.
pub fn in_container(lines: &[CgroupLine], expected: &str) -> bool {
    let v1: Vec<&CgroupLine> = lines
        .iter()
        .filter(|line| line.hierarchy != 0 && line.controllers.iter().any(|c| CONTROLLERS.contains(&c.as_str())))
        .collect();
    if v1.iter().any(|line| line.controllers.iter().any(|c| c == "freezer")) {
        return v1.iter().all(|line| line.path == expected);
    }
    lines.iter().any(|line| line.hierarchy == 0 && line.path == expected)
}

/// `a-b.slice` lies in `a.slice` (systemd.slice(5)).
fn expand_slice(slice: &str) -> String {
    let stem = slice.trim_matches('/').trim_end_matches(".slice");
    if stem.is_empty() || stem == "-" {
        return String::new();
    }
    let mut path = String::new();
    let mut prefix = String::new();
    for part in stem.split('-') {
        if !prefix.is_empty() {
            prefix.push('-');
        }
        prefix.push_str(part);
        path.push('/');
        path.push_str(&prefix);
        path.push_str(".slice");
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::procfs::parse_cgroups;

    const ID: &str = "ab12";

    #[test]
    fn paths_of_both_drivers() {
        for (driver, parent, expected) in [
            (Driver::Cgroupfs, None, "/docker/ab12"),
            (Driver::Cgroupfs, Some("/lab"), "/lab/ab12"),
            (Driver::Cgroupfs, Some("a/b/"), "/a/b/ab12"),
            (Driver::Cgroupfs, Some("/"), "/ab12"),
            (Driver::Systemd, None, "/system.slice/docker-ab12.scope"),
            (Driver::Systemd, Some("lab.slice"), "/lab.slice/docker-ab12.scope"),
            (
                Driver::Systemd,
                Some("a-b.slice"),
                "/a.slice/a-b.slice/docker-ab12.scope",
            ),
            (Driver::Systemd, Some("-.slice"), "/docker-ab12.scope"),
        ] {
            assert_eq!(expected_path(driver, parent, ID), expected, "{driver:?} {parent:?}");
        }
    }

    #[test]
    fn only_equality_is_membership() {
        let table = [
            // (lines, is in /docker/ab12)
            ("6:freezer:/docker/ab12\n5:memory:/docker/ab12\n0::/\n", true),
            ("6:freezer:/docker/ab12\n9:name=systemd:/docker/ab12\n", true),
            // A controller that Docker doesn't make says nothing.
            ("7:rdma:/\n6:freezer:/docker/ab12\n", true),
            ("3:cpu,cpuacct:/docker/ab12\n6:freezer:/docker/ab12\n", true),
            ("6:freezer:/docker/ab12\n5:memory:/\n", false),
            ("6:freezer:/\n5:memory:/docker/ab12\n", false),
            ("6:freezer:/docker/ab12/agent\n", false),
            ("6:freezer:/docker/ab12/docker/cd34\n", false),
            ("6:freezer:/x/docker/ab12\n", false),
            ("6:freezer:/docker/ab1\n", false),
            ("6:freezer:/docker/ab123\n", false),
            // On v1 the v2 line decides nothing.
            ("6:freezer:/\n0::/docker/ab12\n", false),
            ("0::/docker/ab12\n", true),
            ("0::/docker/ab12/agent\n", false),
            ("0::/../docker/ab12\n", false),
            ("0::/\n", false),
            ("", false),
        ];
        for (text, expected) in table {
            let lines = parse_cgroups(text).expect("well-formed");
            assert_eq!(in_container(&lines, "/docker/ab12"), expected, "{text:?}");
        }
    }
}
