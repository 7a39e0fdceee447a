//! What `/proc` says of processes, whose names and mounts are their own choice.

use clawker_proc::{cgroup, mark, procfs};

use super::{text, texts};
use crate::Target;

pub const STAT: Target = Target {
    name: "proc-stat",
    about: "/proc/<pid>/stat; the process, which chooses its name",
    check: stat,
    seeds: || {
        texts(&[
            "42 (sh) S 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 12345 1000 200 18446744073709551615 1 1",
            "7 (a) b) R 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 9 0 0",
        ])
    },
    factor: 128,
};

pub const FILES: Target = Target {
    name: "proc-files",
    about: "/proc/<pid>/{status,cgroup,mountinfo,limits}; the process, which chooses its name, mounts and cgroups",
    check: files,
    seeds: || {
        texts(&[
            "Name:\tsh\nUmask:\t0022\nTracerPid:\t0\nNSpid:\t4242\t42\n",
            "12:cpu,cpuacct:/docker/ab\n6:freezer:/docker/ab\n1:name=systemd:/docker/ab\n0::/docker/ab\n",
            "22 1 0:21 / / rw,relatime - overlay overlay rw\n23 22 8:1 /agent /.clawker ro,nosuid - ext4 /dev/a rw\n",
            "Limit   Soft Limit  Hard Limit  Units\nMax file locks            3   41   locks\n",
        ])
    },
    factor: 128,
};

fn stat(input: &[u8]) -> bool {
    let text = text(input);
    let Ok(stat) = procfs::parse_stat(&text) else {
        return false;
    };
    let procfs::Stat {
        pid,
        ref comm,
        state,
        ppid,
        pgrp,
        session,
        flags,
        start_time,
    } = stat;
    assert!(text.contains(&format!("({comm})")), "a name that isn't there");
    // The fields between are not read; where they are counted wrongly, this comes back as another.
    let twelve = "0 ".repeat(12);
    let written = format!("{pid} ({comm}) {state} {ppid} {pgrp} {session} 0 0 {flags} {twelve}{start_time}\n");
    assert_eq!(procfs::parse_stat(&written).expect("it is one"), stat);
    assert_eq!(procfs::descendants(std::slice::from_ref(&stat), pid), [pid]);
    true
}

fn files(input: &[u8]) -> bool {
    let text = text(input);
    let pids = procfs::parse_ns_pids(&text);
    assert!(
        pids.as_ref().is_ok_and(|pids| !pids.is_empty()) || pids.is_err(),
        "a process without a number"
    );
    // All that is promised of these is a value or an error.
    let read = [
        procfs::parse_tracer_pid(&text).is_ok(),
        mark::parse(&text).is_ok(),
        pids.is_ok(),
    ]
    .contains(&true);
    if let Ok(mounts) = procfs::parse_mounts(&text) {
        assert_eq!(
            mounts.len(),
            text.split_terminator('\n').count(),
            "a mount was passed over"
        );
    }
    let Ok(groups) = procfs::parse_cgroups(&text) else {
        return read;
    };
    assert_eq!(
        groups.len(),
        text.split_terminator('\n').count(),
        "a cgroup was passed over"
    );
    let line = |group: &procfs::CgroupLine| {
        let controllers = group.controllers.join(",");
        format!("{}:{controllers}:{}\n", group.hierarchy, group.path)
    };
    let written: String = groups.iter().map(line).collect();
    assert_eq!(procfs::parse_cgroups(&written).expect("they are"), groups);
    // Only what is in a group of exactly this path is in the container.
    let path = "/docker/ab";
    if cgroup::in_container(&groups, path) {
        assert!(groups.iter().any(|group| group.path == path));
        let nested: Vec<procfs::CgroupLine> = groups
            .into_iter()
            .map(|group| procfs::CgroupLine {
                path: format!("{}/agent", group.path),
                ..group
            })
            .collect();
        assert!(
            !cgroup::in_container(&nested, path),
            "a nested group passed for the container's"
        );
    }
    read || !text.is_empty()
}
