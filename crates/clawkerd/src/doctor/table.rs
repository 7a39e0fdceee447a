//! What clawkerd relies on, in the order in which it is shown.

use super::here::Here;
use super::{Finding, Row, calls, judge};

pub(super) struct Capability {
    name: &'static str,
    required: bool,
    look: fn(&Here) -> Finding,
    without: &'static str,
}

impl Capability {
    pub(super) fn examine(&self, here: &Here) -> Row {
        let finding = (self.look)(here);
        Row {
            name: self.name,
            verdict: finding.verdict,
            required: self.required,
            found: finding.found,
            without: self.without,
        }
    }
}

const fn required(name: &'static str, look: fn(&Here) -> Finding, without: &'static str) -> Capability {
    Capability {
        name,
        required: true,
        look,
        without,
    }
}

const fn wanted(name: &'static str, look: fn(&Here) -> Finding, without: &'static str) -> Capability {
    Capability {
        name,
        required: false,
        look,
        without,
    }
}

pub(super) const CAPABILITIES: &[Capability] = &[
    wanted(
        "kernel",
        judge::kernel,
        "the calls below came with Linux 5.6 at the latest; each row says whether its own is there",
    ),
    wanted(
        "first-process",
        judge::first_process,
        "clawkerd init is a container's first process; as any other it exits with 78",
    ),
    required(
        "proc",
        judge::proc,
        "no session half is started; hidden processes are missed by a signal to their exec",
    ),
    required(
        "own-program",
        |_| calls::own_program(),
        "PID 1 can't start its session half, and no control plane reaches it",
    ),
    required(
        "dev-null",
        |_| calls::dev_null(),
        "the session half and execs without standard input have nothing to read from",
    ),
    required(
        "signalfd",
        |_| calls::signalfd(),
        "PID 1 hears of no signal and of no end of a child",
    ),
    required(
        "pidfd",
        |_| calls::pidfd(),
        "an exec's processes can't be signalled, not at its timeout either",
    ),
    required(
        "memfd",
        |_| calls::memfd(),
        "there is nothing to keep output, identity and long messages in",
    ),
    required(
        "socketpair",
        |_| calls::socketpair(),
        "PID 1 and its session half can't talk, nor pass the connection on",
    ),
    required(
        "undumpable",
        |_| calls::undumpable(),
        "the agent could read the identity's key out of clawkerd's memory; PID 1 refuses to start",
    ),
    required(
        "no-new-privs",
        |_| calls::no_new_privs(),
        "what steps run could gain privileges; their execs fail",
    ),
    required(
        "openat2",
        |_| calls::openat2(),
        "no file is written or read for a step: symlinks of the agent's could lead out of the root",
    ),
    wanted(
        "close-range",
        |_| calls::close_range(),
        "only O_CLOEXEC keeps clawkerd's descriptors from the agent's processes; the second lock is off",
    ),
    wanted(
        "upgrade",
        |_| calls::upgrade(),
        "a running agent keeps the session half that it has: none is executed out of a memfd",
    ),
    wanted("pty", |_| calls::pty(), "an exec with a terminal fails"),
    wanted(
        "mark",
        |_| calls::mark(),
        "a process that left its exec's session, group and parent is not found by a signal to the exec",
    ),
    wanted(
        "open-files",
        judge::open_files,
        "fewer than 1,024 execs at a time: each has pipes and rings",
    ),
    wanted(
        "pids",
        judge::pids,
        "starting the session half or an exec fails when no process is left to have",
    ),
    wanted(
        "memory",
        judge::memory,
        "rings of up to 16 MiB and the session half leave the agent little",
    ),
    wanted(
        "freezer",
        judge::freezer,
        "the agent can't be frozen, neither by its lease nor by containment",
    ),
    wanted(
        "oom-count",
        judge::oom_count,
        "an exec that the kernel killed for memory is told as killed, not why",
    ),
    required(
        "capabilities",
        judge::capabilities,
        "SETUID, SETGID, SETPCAP: no process becomes its user; the others: users' files and processes are out of reach",
    ),
    required(
        "user-namespace",
        judge::user_namespace,
        "no process can be given its user and groups",
    ),
    wanted(
        "seccomp",
        judge::seccomp,
        "every call that the kernel has is open to the agent",
    ),
    wanted(
        "root",
        judge::root,
        "steps write no files outside of volumes, and /var/run/clawker/ready is missing",
    ),
    wanted(
        "program-dir",
        judge::program_dir,
        "this is no agent, or one whose clawkerd is the image's own",
    ),
    wanted("run-dir", judge::run_dir, "no control plane is reached by a socket"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_capability_has_a_name_of_its_own_and_says_what_follows() {
        for (number, one) in CAPABILITIES.iter().enumerate() {
            assert!(one.without.len() > 10, "{}", one.name);
            assert!(
                one.name
                    .chars()
                    .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-'),
                "{}",
                one.name
            );
            let same = CAPABILITIES.iter().position(|other| other.name == one.name);
            assert_eq!(same, Some(number), "{} stands there twice", one.name);
        }
    }
}
