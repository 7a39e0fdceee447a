//! How an exec begins: looked up, checked, piped together, spawned.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_identity::thumbprint;
use rustix::pipe::{PipeFlags, pipe_with};

use super::command::{CommandError, Extra, build, check_id};
use super::descriptors;
use super::exec::{Exec, Leave, Stages, Terms};
use super::spawn::{Command, Spawned, Stdio, spawn};
use super::supervisor::Supervisor;
use super::tree::Tree;
use crate::halves::{ExecSpec, MAX_STAGES, Reply};
use crate::user::Files;

/// Most exec records that are kept until they are acknowledged.
const MAX_EXECS: usize = 1024;
/// Most bytes of all rings together.
const RING_BUDGET: usize = 16 * 1024 * 1024;
const RING: usize = 256 * 1024;
const MIN_RING: usize = 16 * 1024;
/// A rule without a while gives so much.
const DESERTED_AFTER: u32 = 60;

impl Supervisor {
    /// Starts it, at most once for its id: the same again attaches, another spec is a conflict.
    pub(super) fn exec(&mut self, id: u64, spec: &ExecSpec, now: Instant) {
        let exec_id = &spec.exec_id;
        if let Err(error) = check_id(exec_id) {
            return self.refuse_command(id, exec_id, 0, &error);
        }
        let digest = postcard::to_stdvec(spec)
            .map(|bytes| thumbprint(&bytes))
            .unwrap_or_default();
        if let Some(exec) = self.execs.find(exec_id).and_then(|number| self.execs.get_mut(number)) {
            if exec.terms.spec != digest {
                return self.refuse(id, exec_id, "conflict", "another exec has this id".to_owned());
            }
            let pid = exec.stages.pid();
            if !exec.wait(id) {
                let exec_id = exec_id.clone();
                self.reply(id, Reply::Started { exec_id, pid });
            }
            return;
        }
        let used: usize = self.execs.iter().map(Exec::ring_bytes).sum();
        let ring = RING.min(RING_BUDGET.saturating_sub(used) / 4);
        let full = if self.execs.len() >= MAX_EXECS {
            Some("the limit")
        } else if ring < MIN_RING {
            Some("and no memory is left for the output of another")
        } else {
            let used = self.execs.iter().map(Exec::descriptors).sum::<usize>();
            let full = !descriptors::are_left(used.saturating_add(self.sinkhole.len()));
            full.then_some("and no descriptors are left for another")
        };
        if let Some(why) = full {
            let message = format!("{} execs are not acknowledged, {why}", self.execs.len());
            return self.refuse(id, exec_id, "too_many", message);
        }
        let stages = spec.stages.len();
        if stages == 0 || stages > MAX_STAGES {
            let message = format!("an exec has 1 to {MAX_STAGES} stages, this has {stages}");
            return self.refuse(id, exec_id, "unsupported", message);
        }
        if stages > 1 && spec.tty.is_some() {
            let message = "a terminal goes with one stage; a shell makes pipelines on it".to_owned();
            return self.refuse(id, exec_id, "unsupported", message);
        }
        let terms = Terms {
            number: self.execs.number(),
            id: exec_id.clone(),
            spec: digest,
            ring,
            lossy: spec.lossy,
        };
        match self.begin(spec, terms) {
            Ok(mut exec) => {
                exec.wait(id);
                exec.kill_after(Duration::from_secs(u64::from(spec.timeout)), now);
                let rule = spec.on_disconnect.map(|(goodbye, after)| {
                    let after = if after == 0 { DESERTED_AFTER } else { after };
                    (goodbye, Duration::from_secs(u64::from(after)))
                });
                exec.leave = Leave::new(rule, now);
                self.execs.insert(exec);
            }
            Err((stage, error)) => self.refuse_command(id, exec_id, stage, &error),
        }
    }

    fn refuse(&mut self, id: u64, exec_id: &str, kind: &str, message: String) {
        self.reply(
            id,
            Reply::ExecFailed {
                exec_id: exec_id.to_owned(),
                kind: kind.to_owned(),
                errno: 0,
                stage: 0,
                message,
            },
        );
    }

    /// What was to be executed can't be, and this stage is why.
    pub(super) fn refuse_command(&mut self, id: u64, exec_id: &str, stage: u8, error: &CommandError) {
        let reply = Reply::ExecFailed {
            exec_id: exec_id.to_owned(),
            kind: error.kind().to_owned(),
            errno: error.errno(),
            stage,
            message: error.to_string(),
        };
        self.reply(id, reply);
    }

    /// All stages are built before the first is spawned.
    fn begin(&self, spec: &ExecSpec, terms: Terms) -> Result<Exec, (u8, CommandError)> {
        self.link.clear();
        let first = |error: io::Error| (0, error.into());
        let (ends, pipes) = match spec.tty {
            Some(size) => super::pipes::terminal(size),
            None => super::pipes::pipes(spec.stdin),
        }
        .map_err(first)?;
        let files = Files::read();
        let mut commands = Vec::new();
        let stdios = shared(ends, spec.stages.len()).map_err(first)?;
        for (number, (stage, stdio)) in (0..).zip(spec.stages.iter().zip(stdios)) {
            let extra = Extra {
                env: Vec::new(),
                mark: terms.number,
                // Before AgentReady there is only preparation, which needs to gain nothing.
                no_new_privs: self.main.as_ref().is_none_or(|main| main.no_new_privs),
                create_cwd: false,
                stdio,
                files: &files,
            };
            let command = build(stage, extra).map_err(|error| (number, error))?;
            if let Stdio::Terminal(slave) = &command.stdio {
                let owner = rustix::fs::Uid::from_raw(command.identity.uid);
                rustix::fs::fchown(slave, Some(owner), None).map_err(|error| first(error.into()))?;
            }
            commands.push(command);
        }
        let mut exec = Exec::new(terms, pipes).map_err(first)?;
        exec.stages = Stages::new(self.spawn_all(commands, exec.terms.number)?);
        Ok(exec)
    }

    /// All of them, or none is left.
    fn spawn_all(&self, commands: Vec<Command>, mark: u32) -> Result<Vec<Spawned>, (u8, CommandError)> {
        let mut spawned = Vec::new();
        for (number, command) in (0..).zip(commands) {
            let one = self.procs().and_then(|procs| Ok(spawn(&command, procs)?));
            match one {
                Ok(one) => spawned.push(one),
                Err(error) => {
                    let roots: Vec<(i32, bool)> = spawned.iter().map(|one| (one.pid, false)).collect();
                    self.tree(&roots, mark).signal(libc::SIGKILL, &self.own());
                    return Err((number, error));
                }
            }
        }
        Ok(spawned)
    }

    pub(super) fn tree<'a>(&self, roots: &'a [(i32, bool)], mark: u32) -> Tree<'a> {
        Tree {
            roots,
            mark,
            last_mark: self.execs.last_number(),
        }
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
}

/// The streams of each stage: the exec's at the ends, pipes between, standard error the same for all.
fn shared(ends: Stdio, stages: usize) -> io::Result<Vec<Stdio>> {
    let (mut stdin, stdout, stderr) = match ends {
        Stdio::Given { stdin, stdout, stderr } => (stdin, stdout, stderr),
        // Of one stage only.
        other => return Ok(vec![other]),
    };
    let mut shared = Vec::new();
    for _ in 1..stages {
        let (read, write): (OwnedFd, OwnedFd) = pipe_with(PipeFlags::CLOEXEC)?;
        shared.push(Stdio::Given {
            stdin: std::mem::replace(&mut stdin, read),
            stdout: write,
            stderr: stderr.try_clone()?,
        });
    }
    shared.push(Stdio::Given { stdin, stdout, stderr });
    Ok(shared)
}
