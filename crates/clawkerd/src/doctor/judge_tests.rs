//! Each judgement in a table: an agent as Docker starts it, with one thing different.

use clawker_proc::procfs::parse_mounts;

use super::super::Verdict::{self, Degraded, Missing, Ok as Fine};
use super::*;

const STATUS: &str = "Name:\tclawkerd\nCapEff:\t00000000a80405fb\nCapBnd:\t00000000a80405fb\nNoNewPrivs:\t0\n\
                      Seccomp:\t2\nSeccomp_filters:\t1\n";
const MOUNTS: &str = "overlay / overlay rw,relatime 0 0\nproc /proc proc rw,nosuid 0 0\n";
const MOUNTINFO: &str = "1 0 0:1 / / rw - overlay overlay rw\n2 1 0:2 /agent /.clawker ro - ext4 a rw\n\
                         3 1 0:2 /run /.clawker-run ro - ext4 a rw\n";

/// An agent on Docker, seen by `docker exec`.
fn agent() -> Here {
    Here {
        pid: 42,
        kernel: "Linux 6.1.0-9 on x86_64".to_owned(),
        release: "6.1.0-9".to_owned(),
        first: Ok(["/.clawker/clawkerd", "init", "--", "sh"].map(str::to_owned).into()),
        status: Ok(STATUS.to_owned()),
        mounts: Ok(MOUNTS.to_owned()),
        mountinfo: Ok(parse_mounts(MOUNTINFO).expect("well-formed")),
        uid_map: Ok("         0          0 4294967295\n".to_owned()),
        setgroups: Ok("allow\n".to_owned()),
        open_files: Some(1_048_576),
        pids: Limit {
            most: Some(100),
            used: Some(9),
        },
        memory: Limit::default(),
        freezer: Freezer::Seen {
            version: "v1",
            writable: false,
        },
        oom_count: Some("/sys/fs/cgroup/memory.events".to_owned()),
        program: true,
    }
}

type Look = fn(&Here) -> Finding;

const ALL: [Look; 13] = [
    kernel,
    first_process,
    proc,
    open_files,
    pids,
    memory,
    freezer,
    oom_count,
    capabilities,
    user_namespace,
    seccomp,
    program_dir,
    run_dir,
];

/// Of an agent in which one thing is different.
#[track_caller]
fn expect(look: Look, change: impl FnOnce(&mut Here), verdict: Verdict, found: &str) {
    let mut here = agent();
    change(&mut here);
    assert_eq!(look(&here), Finding::new(verdict, found));
}

#[test]
fn an_agent_as_docker_starts_it_lacks_nothing() {
    for look in ALL.into_iter().chain([root as Look]) {
        let finding = look(&agent());
        assert_eq!(finding.verdict, Fine, "{finding:?}");
    }
}

#[test]
fn where_nothing_can_be_read_nothing_is_fine_by_default() {
    let none = || Err("reading /proc/x: gone".to_owned());
    let here = Here {
        first: Err("gone".to_owned()),
        status: none(),
        mounts: none(),
        mountinfo: Err("gone".to_owned()),
        oom_count: None,
        program: false,
        freezer: Freezer::None,
        ..agent()
    };
    let looks: [Look; 9] = [
        first_process,
        proc,
        freezer,
        oom_count,
        capabilities,
        seccomp,
        root,
        program_dir,
        run_dir,
    ];
    for look in looks {
        let finding = look(&here);
        assert_ne!(finding.verdict, Fine, "{finding:?}");
    }
}

#[test]
fn old_kernels_and_those_of_no_number_are_doubted() {
    for (release, verdict) in [
        ("5.6", Fine),
        ("5.10.0-x", Fine),
        ("5.5.19", Degraded),
        ("4.19.0", Degraded),
        ("x", Degraded),
    ] {
        expect(
            kernel,
            |here| here.release = release.to_owned(),
            verdict,
            "Linux 6.1.0-9 on x86_64",
        );
    }
}

#[test]
fn process_1_is_clawkerd_or_this_or_another() {
    expect(first_process, |_| {}, Fine, "process 1 is clawkerd init");
    expect(first_process, |here| here.pid = 1, Fine, "this is process 1");
    let other = |here: &mut Here| here.first = Ok(vec!["/sbin/i\u{1b}nit".to_owned()]);
    expect(first_process, other, Degraded, "process 1 is `/sbin/i\u{fffd}nit`");
}

#[test]
fn proc_is_there_and_hides_nobody() {
    let with = |line: &'static str| move |here: &mut Here| here.mounts = Ok(format!("{MOUNTS}{line} 0 0\n"));
    expect(
        proc,
        with("proc /proc proc rw,hidepid=2"),
        Degraded,
        "mounted with hidepid=2",
    );
    expect(
        proc,
        with("proc /proc proc rw,hidepid=invisible"),
        Degraded,
        "mounted with hidepid=invisible",
    );
    let fine = "mounted, nobody's processes are hidden";
    expect(proc, with("proc /proc proc rw,hidepid=off"), Fine, fine);
    let without = |here: &mut Here| here.mounts = Ok("tmpfs /proc tmpfs rw 0 0\n".to_owned());
    expect(proc, without, Missing, "no proc is mounted at /proc");
}

#[test]
fn limits_leave_room() {
    let pids_of = |most, used| move |here: &mut Here| here.pids = Limit { most, used };
    expect(pids, pids_of(None, Some(9000)), Fine, "no limit is shown");
    expect(pids, pids_of(Some(100), Some(76)), Fine, "76 of 100");
    expect(pids, pids_of(Some(100), Some(77)), Degraded, "77 of 100");
    expect(pids, pids_of(Some(1), Some(5)), Degraded, "5 of 1");
    let memory_of = |most| move |here: &mut Here| here.memory = Limit { most, used: Some(MIB) };
    expect(memory, memory_of(Some(64 * MIB)), Fine, "1 of 64 MiB");
    expect(memory, memory_of(Some(63 * MIB)), Degraded, "1 of 63 MiB");
    expect(open_files, |here| here.open_files = None, Fine, "any number");
    expect(
        open_files,
        |here| here.open_files = Some(1024),
        Degraded,
        "1024 a process, 5184 may be needed",
    );
}

#[test]
fn a_freezer_that_root_in_the_agent_can_write_is_none_to_rely_on() {
    let writable = |here: &mut Here| {
        here.freezer = Freezer::Seen {
            version: "v2",
            writable: true,
        }
    };
    expect(freezer, writable, Degraded, "v2, root in here can thaw itself");
    let on_a_host = |here: &mut Here| {
        writable(here);
        here.first = Ok(vec!["systemd".to_owned()]);
    };
    expect(freezer, on_a_host, Fine, "v2, to be written here");
    expect(
        freezer,
        |here| here.freezer = Freezer::Unseen("v1"),
        Fine,
        "v1, its files are not shown here",
    );
    expect(
        freezer,
        |here| here.freezer = Freezer::None,
        Missing,
        "this process's cgroups name none",
    );
}

#[test]
fn capabilities_that_are_needed_and_those_that_are_only_missed() {
    let held = |effective: u64, bounding: u64| {
        move |here: &mut Here| here.status = Ok(format!("CapEff:\t{effective:016x}\nCapBnd:\t{bounding:016x}\n"))
    };
    let dockers: u64 = 0xa804_25fb;
    expect(
        capabilities,
        held(dockers, dockers),
        Fine,
        "process 1 has all that is needed, 14 in all",
    );
    expect(
        capabilities,
        held(dockers & !(1 << 5), dockers),
        Degraded,
        "process 1 lacks KILL",
    );
    expect(
        capabilities,
        held(dockers & !(1 << 7), dockers),
        Missing,
        "process 1 lacks SETUID",
    );
    expect(
        capabilities,
        held(dockers & !(1 << 8), dockers),
        Missing,
        "process 1 lacks SETPCAP",
    );
    // Where the set to be emptied is empty already nothing is needed to empty it.
    let without = dockers & !KEPT_FROM_USERS;
    expect(
        capabilities,
        held(without, without),
        Fine,
        "process 1 has all that is needed, 13 in all",
    );
    let user = |here: &mut Here| {
        held(0, dockers)(here);
        here.first = Ok(vec!["systemd".to_owned()]);
    };
    expect(
        capabilities,
        user,
        Missing,
        "this process lacks SETGID, SETUID, SETPCAP, CHOWN, DAC_OVERRIDE, FOWNER, KILL",
    );
    expect(
        capabilities,
        |here| here.status = Ok("CapEff:\tx\n".to_owned()),
        Missing,
        "process 1 has a status without capabilities",
    );
}

#[test]
fn a_user_namespace_has_users_and_lets_groups_be_set() {
    let of = |map: &'static str| move |here: &mut Here| here.uid_map = Ok(map.to_owned());
    expect(user_namespace, |_| {}, Fine, "the host's");
    expect(
        user_namespace,
        of("0 100000 65536\n"),
        Fine,
        "one with 65536 users, root is 100000 outside",
    );
    expect(
        user_namespace,
        of("0 1000 1\n1 100000 100\n"),
        Degraded,
        "one with 101 users, root is 1000 outside",
    );
    expect(
        user_namespace,
        of("7 7 1\n"),
        Degraded,
        "one with 1 users, root is nobody outside",
    );
    expect(
        user_namespace,
        of("\n"),
        Degraded,
        "one with 0 users, root is nobody outside",
    );
    let denied = |here: &mut Here| here.setgroups = Ok("deny\n".to_owned());
    expect(user_namespace, denied, Missing, "one in which nobody sets groups");
}

#[test]
fn system_calls_are_filtered() {
    let status = |text: &'static str| move |here: &mut Here| here.status = Ok(text.to_owned());
    expect(seccomp, |_| {}, Fine, "process 1 has 1 filters");
    let older = status("NoNewPrivs:\t1\nSeccomp:\t2\n");
    expect(seccomp, older, Fine, "process 1 is filtered, gains no privileges");
    expect(seccomp, status("Seccomp:\t0\n"), Degraded, "process 1 is not filtered");
    expect(seccomp, status("Name:\tx\n"), Missing, "the kernel has none");
}

#[test]
fn clawkers_own_folders_are_mounted_and_the_agent_cannot_write_there() {
    let with = |line: &'static str| {
        move |here: &mut Here| here.mountinfo = Ok(parse_mounts(&format!("{MOUNTINFO}{line}")).expect("well-formed"))
    };
    for (look, point) in [(program_dir as Look, "/.clawker"), (run_dir, "/.clawker-run")] {
        expect(look, |_| {}, Fine, "mounted read-only");
        let over = format!("{MOUNTINFO}9 1 0:3 / {point} rw - tmpfs t rw\n");
        expect(
            look,
            |here| here.mountinfo = Ok(parse_mounts(&over).expect("well-formed")),
            Degraded,
            "mounted, and root in here can replace what it holds",
        );
    }
    let elsewhere = |here: &mut Here| here.mountinfo = Ok(Vec::new());
    expect(
        program_dir,
        elsewhere,
        Fine,
        "put here, not mounted: the engine is elsewhere",
    );
    expect(run_dir, elsewhere, Fine, "not mounted: the control plane dials");
    let nowhere = |here: &mut Here| {
        elsewhere(here);
        here.program = false;
    };
    expect(program_dir, nowhere, Missing, "not mounted");
    expect(run_dir, nowhere, Missing, "not mounted");
    expect(root, with("9 1 0:3 / / ro - tmpfs t rw\n"), Degraded, "read-only");
}
