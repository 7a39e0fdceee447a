//! What the tests make of the kernel: processes in cgroups, a namespace with a thread in it.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command as Process};
use std::sync::mpsc as std_mpsc;

use clawker_model::agent::MainSpec;
use clawker_model::{AgentSpec, FullName};
use clawker_proc::cgroup::AgentCgroup;
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// An init that ignores SIGTERM, and a busy process of the user's in `agent`.
pub(super) fn processes(cgroup: &str) -> (Child, Child) {
    let spawn = |script: &str, file: String| {
        let mut command = Process::new("sh");
        command.args(["-c", script]);
        let file = fs::OpenOptions::new().write(true).open(file).expect("cgroup.procs");
        // SAFETY: one write to an open descriptor, async-signal-safe.
        unsafe { command.pre_exec(move || std::io::Write::write_all(&mut &file, b"0")) };
        command.spawn().expect("sh starts")
    };
    AgentCgroup::create(cgroup).expect("agent");
    let root = format!("/sys/fs/cgroup/freezer{cgroup}");
    let init = spawn(
        "trap '' TERM; while :; do sleep 1; done",
        format!("{root}/cgroup.procs"),
    );
    let user = spawn("while :; do :; done", format!("{root}/agent/cgroup.procs"));
    (init, user)
}

pub(super) fn netns() -> std_mpsc::Sender<Box<dyn FnOnce() + Send>> {
    let (jobs, queue) = std_mpsc::channel::<Box<dyn FnOnce() + Send>>();
    std::thread::spawn(move || {
        // SAFETY: only this thread's network namespace changes.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a namespace");
        ip("link set lo up");
        ip("link add eth0 type veth peer name peth0");
        ip("link set peth0 up");
        ip("addr add 10.77.0.1/24 dev eth0");
        ip("link set eth0 up");
        queue.into_iter().for_each(|job| job());
    });
    jobs
}

pub(super) fn ip(arguments: &str) {
    let status = Process::new("ip").args(arguments.split(' ')).status().expect("ip runs");
    assert!(status.success(), "ip {arguments}");
}

pub(crate) fn spec(name: &FullName) -> AgentSpec {
    AgentSpec {
        name: name.clone(),
        image: "busybox".into(),
        image_id: "sha256:0".into(),
        owner: "uid:0".into(),
        main: MainSpec {
            argv: vec!["true".into()],
            user: String::new(),
            env: Vec::new(),
            cwd: String::new(),
            tty: false,
            open_stdin: false,
            stop_signal: None,
            no_new_privs: true,
        },
        health: None,
        secrets: Vec::new(),
        mounts: Vec::new(),
        publish: Vec::new(),
        network: Default::default(),
        egress: Default::default(),
        resources: Default::default(),
        plan: Default::default(),
        remove: false,
        on_orphan: Default::default(),
        absence: Default::default(),
        restart: Default::default(),
        unsafe_options: Vec::new(),
    }
}
