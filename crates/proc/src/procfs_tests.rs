use super::*;

const STATUS: &str = "Name:\tsleep\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t32035\nNgid:\t0\nPid:\t32035\n\
                      PPid:\t32010\nTracerPid:\t0\nUid:\t0\t0\t0\t0\nNStgid:\t32035\t1\nNSpid:\t32035\t1\n";

fn stat_text(comm: &str) -> String {
    format!(
        "32035 ({comm}) S 32010 32035 32034 0 -1 4194564 112 0 3 0 0 1 0 0 20 0 1 0 987654 5689344 200 \
         18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n"
    )
}

#[test]
fn a_name_cannot_forge_the_fields_after_it() {
    for comm in [
        "sleep",
        "a b",
        "a) S 1 1 1",
        "((",
        "))",
        ") R 1 2 3 4 5 6 7 (",
        "",
        "x\ny",
    ] {
        let stat = parse_stat(&stat_text(comm)).expect(comm);
        assert_eq!(stat.comm, comm);
        assert_eq!(
            (stat.pid, stat.state, stat.ppid, stat.pgrp, stat.session),
            (32035, 'S', 32010, 32035, 32034),
            "{comm:?}"
        );
        assert_eq!((stat.flags, stat.start_time), (4_194_564, 987_654), "{comm:?}");
    }
}

#[test]
fn a_stat_cut_anywhere_before_its_start_time_is_an_error() {
    let text = stat_text("sleep");
    let end = text.find("987654").expect("there");
    for cut in 0..end {
        assert!(parse_stat(&text[..cut]).is_err(), "cut at {cut}");
    }
}

#[test]
fn status_gives_namespace_pids_and_tracer() {
    assert_eq!(parse_ns_pids(STATUS).expect("there"), [32035, 1]);
    assert_eq!(parse_tracer_pid(STATUS).expect("there"), 0);
    for bad in ["", "NSpid:\n", "NSpid:\tx\n", "Name:\tNSpid:\t1\n", "XNSpid:\t1\n"] {
        assert!(parse_ns_pids(bad).is_err(), "{bad:?}");
    }
    assert!(parse_tracer_pid("TracerPid:\t\n").is_err());
}

#[test]
fn a_carriage_return_is_part_of_a_name() {
    let lines = parse_cgroups("6:freezer:/docker/ab\r\n").expect("well-formed");
    assert_eq!(lines[0].path, "/docker/ab\r");
    assert!(
        !crate::cgroup::in_container(&lines, "/docker/ab"),
        "another group passed"
    );
    let mounts = parse_mounts("1 0 8:1 / /a ro\r\n").expect("well-formed");
    assert!(!mounts[0].read_only, "`ro\\r` is no option");
}

#[test]
fn cgroup_lines_of_both_versions() {
    let lines = parse_cgroups("9:name=systemd:/docker/ab\n6:cpu,cpuacct:/a:b\n0::/\n").expect("well-formed");
    assert_eq!(
        lines,
        [
            CgroupLine {
                hierarchy: 9,
                controllers: vec!["name=systemd".to_owned()],
                path: "/docker/ab".to_owned()
            },
            CgroupLine {
                hierarchy: 6,
                controllers: vec!["cpu".to_owned(), "cpuacct".to_owned()],
                path: "/a:b".to_owned()
            },
            CgroupLine {
                hierarchy: 0,
                controllers: vec![],
                path: "/".to_owned()
            },
        ]
    );
    for bad in ["1:freezer", "x:freezer:/", "1"] {
        assert!(parse_cgroups(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn descendants_are_found_however_they_are_ordered() {
    let all: Vec<Stat> = [(5, 4), (4, 2), (2, 1), (3, 1), (9, 3)]
        .map(|(pid, ppid)| Stat {
            pid,
            ppid,
            ..parse_stat(&stat_text("x")).expect("well-formed")
        })
        .to_vec();
    let mut below = descendants(&all, 2);
    below.sort_unstable();
    assert_eq!(below, [2, 4, 5]);
}

#[test]
fn this_very_process_is_readable() {
    let me = std::process::id() as i32;
    assert_eq!(ns_pids(me).expect("alive").last(), Some(&me));
    assert_eq!(tracer_pid(me).expect("alive"), 0);
    assert!(!exiting(me).expect("alive"));
    assert!(start_time(me).expect("alive") > 0);
    assert_eq!(boot_id().expect("a kernel").len(), 36);
    assert!(pss_kib(me).expect("alive") > 0);
    open_netns(me).expect("alive");
    assert!(all().expect("proc").iter().any(|process| process.pid == me));
}

#[test]
fn mounts_have_a_point_and_their_own_options() {
    let text = "36 35 98:0 /run/x /.clawker-run ro,relatime - ext4 /dev/vda rw\n\
                37 35 0:5 / /dev rw,nosuid shared:2 - tmpfs tmpfs ro,mode=755\n";
    let mounts = parse_mounts(text).expect("well formed");
    let seen: Vec<_> = mounts
        .iter()
        .map(|mount| (mount.root.as_str(), mount.point.as_str(), mount.read_only))
        .collect();
    assert_eq!(seen, [("/run/x", "/.clawker-run", true), ("/", "/dev", false)]);
    assert!(parse_mounts("36 35 98:0 /\n").is_err());
}
