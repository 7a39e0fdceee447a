//! What the session half asks, and how it is done.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_identity::thumbprint;

use super::command::{CommandError, Extra, build};
use super::end::signal_tree;
use super::exec::Exec;
use super::health::Due;
use super::link;
use super::spawn::{Stdio, spawn};
use super::supervisor::Supervisor;
use crate::halves::{ExecSpec, MAIN, Reply, Request, State, ToHalf, ToInit};
use crate::user::Files;

/// Most exec records that are kept until they are acknowledged.
const MAX_EXECS: usize = 1024;
/// Most bytes of all rings together.
const RING_BUDGET: usize = 16 * 1024 * 1024;
const RING: usize = 256 * 1024;
const MIN_RING: usize = 16 * 1024;
/// Most pipes of acknowledged execs that are kept open for their descendants.
const MAX_SINKHOLE: usize = 256;

impl Supervisor {
    /// All that the half has said by now.
    pub(super) fn hear(&mut self, now: Instant) {
        loop {
            let Some(half) = &mut self.half else { return };
            match half.flush().and_then(|()| half.recv()) {
                Ok(Some(message)) => self.obey(message, now),
                Ok(None) => return,
                Err(error) => {
                    let why = error.to_string();
                    return self.half_gone(&format!("is of no use ({why})"), now);
                }
            }
        }
    }

    fn obey(&mut self, message: ToInit, now: Instant) {
        let Some(half) = &mut self.half else { return };
        half.beat(now);
        if let ToInit::Hardened { dumpable, tracer_pid } = message {
            match half.harden(dumpable, tracer_pid) {
                Ok(()) => self.report_all(),
                Err(error) => self.half_gone(&format!("is not to be trusted ({error})"), now),
            }
            return;
        }
        if !half.is_hardened() {
            return self.half_gone("spoke before it was hardened", now);
        }
        match message {
            ToInit::Hardened { .. } | ToInit::Heartbeat => {}
            ToInit::SessionLost => self.link.lost(now),
            ToInit::NeedAgentSocket { id } => self.dial_agent_socket(id),
            ToInit::Request { id, request } => self.answer(id, request, now),
            ToInit::Consumed {
                exec_id,
                stream,
                offset,
            } => {
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.consumed(stream, offset);
                }
            }
            ToInit::Stdin { exec_id, offset, bytes } => {
                let taken = self
                    .execs
                    .get_mut(&exec_id)
                    .is_none_or(|exec| exec.stdin(offset, &bytes));
                if !taken {
                    self.half_gone("sent standard input out of turn", now);
                }
            }
            ToInit::StdinEof { exec_id } => {
                if let Some(exec) = self.execs.get_mut(&exec_id) {
                    exec.stdin_eof();
                }
            }
            ToInit::Resize { exec_id, rows, cols } => {
                if let Some(exec) = self.execs.get(&exec_id) {
                    exec.resize(rows, cols);
                }
            }
            ToInit::MainEndNoted { in_session } => self.main_end_noted(in_session, now),
        }
    }

    fn answer(&mut self, id: u64, request: Request, now: Instant) {
        match request {
            Request::Hello { lease } => {
                let length = lease.map_or(self.options.lease(), |s| Duration::from_secs(u64::from(s)));
                self.lease.arm(length, now);
                // From here on the lease rules, not what was to be done without a control plane.
                self.absence.end();
                // From here on the freezer is the control plane's.
                self.freezing = false;
                let state = State {
                    init_life: self.life.clone(),
                    initialized: self.initialized,
                    command_running: self.main.is_some(),
                    lease_frozen: self.lease_frozen,
                    lease_lost: self.lease_lost,
                    session_lives: self.half_lives,
                    half_stopped: std::mem::take(&mut self.half_stopped),
                };
                self.reply(id, Reply::State(Box::new(state)));
            }
            Request::Lease { seconds } => {
                self.lease.arm(Duration::from_secs(u64::from(seconds)), now);
                if std::mem::take(&mut self.lease_frozen) && self.gifts.is_joined() {
                    self.signal_agent(libc::SIGCONT);
                }
                self.lease_lost = false;
                self.freezing = false;
                self.reply(id, Reply::Done);
            }
            Request::Initialized => {
                self.initialized = true;
                self.reply(id, Reply::Done);
            }
            Request::Signal { exec_id, signo } => match i32::try_from(signo) {
                Ok(signo) if (1..=64).contains(&signo) => {
                    if self.signal_exec(&exec_id, signo) {
                        self.reply(id, Reply::Done);
                    } else {
                        self.fail(id, "not_found", format!("no exec {exec_id}"));
                    }
                }
                _ => self.fail(id, "bad_signal", format!("{signo} is no signal")),
            },
            Request::AckExit { exec_id } => self.acknowledge(id, &exec_id, now),
            Request::Exec(spec) => self.exec(id, &spec, now),
            Request::Ready(spec) => self.agent_ready(id, *spec, now),
            Request::Rotate { leaf, roots } => match self.gifts.rotate(leaf, roots) {
                Ok(()) => self.reply(id, Reply::Done),
                Err(error) => self.fail(id, "bad_identity", error.to_string()),
            },
        }
    }

    fn dial_agent_socket(&mut self, id: u64) {
        let (error, fds) = match link::dial(&self.options.run_dir.join("agent.sock")) {
            Ok(socket) => (None, vec![socket]),
            Err(error) => (Some(error.to_string()), Vec::new()),
        };
        self.tell(&ToHalf::AgentSocket { id, error }, fds);
    }

    fn acknowledge(&mut self, id: u64, exec_id: &str, now: Instant) {
        if exec_id == MAIN {
            self.main_end_acknowledged(now);
            return self.reply(id, Reply::Done);
        }
        if self.execs.get(exec_id).is_some_and(|exec| exec.drained.is_none()) {
            return self.fail(id, "not_drained", format!("exec {exec_id} is not at its end"));
        }
        if let Some(exec) = self.execs.remove(exec_id) {
            self.sinkhole.extend(exec.into_sources());
            self.sinkhole.truncate(MAX_SINKHOLE);
            if let Some(half) = &mut self.half {
                half.rings_sent.remove(exec_id);
            }
            self.tell(
                &ToHalf::Gone {
                    exec_id: exec_id.to_owned(),
                },
                Vec::new(),
            );
        }
        self.reply(id, Reply::Done);
    }

    fn exec(&mut self, id: u64, spec: &ExecSpec, now: Instant) {
        let exec_id = &spec.exec_id;
        let digest = postcard::to_stdvec(spec)
            .map(|bytes| thumbprint(&bytes))
            .unwrap_or_default();
        if let Some(exec) = self.execs.get_mut(exec_id) {
            if exec.spec != digest {
                return self.refuse(id, exec_id, "conflict", "another exec has this id".to_owned());
            }
            let pid = exec.pid;
            if !exec.wait(id) {
                self.reply(
                    id,
                    Reply::Started {
                        exec_id: exec_id.clone(),
                        pid,
                    },
                );
            }
            return;
        }
        let used: usize = self.execs.values().map(Exec::ring_bytes).sum();
        let ring = RING.min(RING_BUDGET.saturating_sub(used) / 4);
        if self.execs.len() >= MAX_EXECS || ring < MIN_RING {
            let message = format!("{} execs are not acknowledged", self.execs.len());
            return self.refuse(id, exec_id, "too_many", message);
        }
        let [_stage] = spec.stages.as_slice() else {
            return self.refuse(id, exec_id, "unsupported", "an exec has exactly one stage".to_owned());
        };
        match self.spawn_exec(spec, digest, ring) {
            Ok(mut exec) => {
                exec.wait(id);
                exec.kill_after(Duration::from_secs(u64::from(spec.timeout)), now);
                self.execs.insert(exec_id.clone(), exec);
            }
            Err(error) => self.refuse(id, exec_id, error.kind(), error.to_string()),
        }
    }

    pub(super) fn refuse(&mut self, id: u64, exec_id: &str, kind: &str, message: String) {
        self.reply(
            id,
            Reply::ExecFailed {
                exec_id: exec_id.to_owned(),
                kind: kind.to_owned(),
                errno: 0,
                message,
            },
        );
    }

    fn spawn_exec(&self, spec: &ExecSpec, digest: String, ring: usize) -> Result<Exec, CommandError> {
        self.link.clear();
        let (stdio, pipes) = match spec.tty {
            Some(size) => super::pipes::terminal(size)?,
            None => super::pipes::pipes(spec.stdin)?,
        };
        let extra = Extra {
            env: Vec::new(),
            // Before AgentReady there is only preparation, which needs to gain nothing.
            no_new_privs: self.main.as_ref().is_none_or(|main| main.no_new_privs),
            create_cwd: false,
            stdio,
            files: &Files::read(),
        };
        let command = build(&spec.stages[0], extra)?;
        if let Stdio::Terminal(slave) = &command.stdio {
            let owner = rustix::fs::Uid::from_raw(command.identity.uid);
            rustix::fs::fchown(slave, Some(owner), None).map_err(io::Error::from)?;
        }
        let spawned = spawn(&command, self.procs()?)?;
        Ok(Exec::new(
            spec.exec_id.clone(),
            digest,
            spawned,
            pipes,
            ring,
            spec.lossy,
        )?)
    }

    /// `agent`'s cgroup.procs. Only what runs by the defaults begins without it, or on an engine elsewhere.
    pub(super) fn procs(&self) -> Result<Option<BorrowedFd<'_>>, CommandError> {
        match self.gifts.procs() {
            None if !self.unprepared && !self.gifts.is_joined() => {
                Err(io::Error::other("the control plane gave no cgroup for the agent's processes").into())
            }
            procs => Ok(procs.map(AsFd::as_fd)),
        }
    }

    pub(super) fn keep_execs(&mut self, now: Instant) {
        let overdue: Vec<String> = self
            .execs
            .values_mut()
            .filter_map(|exec| exec.tick(now).then(|| exec.id.clone()))
            .collect();
        for id in overdue {
            self.signal_exec(&id, libc::SIGKILL);
        }
    }

    pub(super) fn keep_health(&mut self, now: Instant) {
        let Some(health) = &mut self.health else { return };
        let started = self
            .execs
            .get(MAIN)
            .is_some_and(|main| !main.is_starting() && main.ended.is_none());
        match health.due(now) {
            Due::Start if started => {
                let stage = health.stage.clone();
                match self.spawn_check(&stage) {
                    Ok(pid) => {
                        if let Some(health) = &mut self.health {
                            health.spawned(pid, now);
                        }
                    }
                    Err(_) => self.check_failed(now),
                }
            }
            Due::Start => health.postpone(now),
            Due::Kill(pid) => {
                let half = self.half.as_ref().map(|half| half.pid);
                signal_tree(pid, libc::SIGKILL, half, false);
            }
            Due::Nothing => {}
        }
    }

    fn spawn_check(&self, stage: &crate::halves::Stage) -> Result<i32, CommandError> {
        let null = || -> io::Result<OwnedFd> {
            Ok(std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")?
                .into())
        };
        let extra = Extra {
            env: Vec::new(),
            no_new_privs: true,
            create_cwd: false,
            stdio: Stdio::Given {
                stdin: null()?,
                stdout: null()?,
                stderr: null()?,
            },
            files: &Files::read(),
        };
        let command = build(stage, extra)?;
        // The outcome pipe is dropped: a check that can't be executed exits 126 or 127, which is a failure.
        Ok(spawn(&command, self.procs()?)?.pid)
    }

    fn check_failed(&mut self, now: Instant) {
        let failed = clawker_proc::wait::Ended::Exited(i32::from(super::spawn::FailureKind::Spawn.exit_code()));
        if let Some((healthy, detail)) = self.health.as_mut().and_then(|health| health.ended(failed, now)) {
            self.tell(&ToHalf::Health { healthy, detail }, Vec::new());
        }
    }
}
