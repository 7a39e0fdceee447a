//! Many agents under one control plane: clawkerd processes of a rig, attested and contained by the real code.

use std::collections::BTreeMap;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clawker_proc::procfs;
use clawker_tests::host::Setup;
use clawker_tests::rig::{self, Rig};
use clawker_tests::{Docker, Host, bins, wait};
use clawker_wire::admin::{AgentView, CreateAgentRequest};
use rustix::process::{Pid, Signal};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::admin::Operator;
use crate::{Bench, HOST_PREFIX, NAME};

/// How many requests of ours are under way at a time.
pub const FLIGHT: usize = 32;
/// How long a batch may take on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
const PROJECT: &str = "scale";
/// The session half's command line.
const HALF: &[u8] = b"clawkerd\0session\0--wire=1\0";

/// An agent by its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub name: String,
    pub container: String,
}

/// A row that was seen, and when.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    pub seq: u64,
    pub kind: String,
    pub agent: String,
}

/// Rows as they come.
#[derive(Clone, Default)]
pub struct Rows {
    rows: Arc<Mutex<Vec<Seen>>>,
    more: Arc<Notify>,
}

pub struct Scale {
    control_plane: Option<Child>,
    pub operator: Option<Operator>,
    pub rows: Rows,
    following: JoinSet<()>,
    pub host: Host,
    pub rig: Rig,
}

impl Scale {
    /// A control plane with the default policy and plan, without agents. `between` may stand before the engine.
    pub fn start(bench: &Bench, between: impl FnOnce(&Rig) -> Result<Option<Docker>>) -> Result<Self> {
        let rig = Rig::start(&format!("{NAME}-rig-"))?;
        let engine = between(&rig)?.unwrap_or_else(|| rig.docker.clone());
        let host = Setup::named(&format!("{HOST_PREFIX}.scale"), NAME, PROJECT)
            .engine(&engine)
            .prepare()?;
        let mut scale = Self {
            control_plane: None,
            operator: None,
            rows: Rows::default(),
            following: JoinSet::new(),
            host,
            rig,
        };
        scale.begin()?;
        scale.connect(bench)?;
        Ok(scale)
    }

    /// Starts the control plane's process and waits for nothing.
    pub fn begin(&mut self) -> Result<Instant> {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.host.log_file())?;
        let mut command = self.host.control_plane_command(&bins::control_plane()?)?;
        let began = Instant::now();
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("starting clawker-cp")?;
        self.control_plane = Some(child);
        Ok(began)
    }

    /// Connects as an operator, as soon as that is possible, and follows the journal.
    pub fn connect(&mut self, bench: &Bench) -> Result<()> {
        let socket = self.host.socket();
        let operator = wait::until("the control plane to answer", PATIENCE, || {
            if let Some(status) = self
                .control_plane
                .as_mut()
                .and_then(|child| child.try_wait().transpose())
            {
                bail!("clawker-cp ended with {:?}; {}", status?, self.host.log_tail());
            }
            bench.runtime.block_on(Operator::connect(&socket)).map(Some)
        });
        let operator = operator.with_context(|| self.host.log_tail())?;
        self.operator = Some(operator.clone());
        self.following.abort_all();
        let (rows, after) = (self.rows.clone(), self.rows.last());
        let _entered = bench.runtime.enter();
        self.following.spawn(async move {
            // Its end is the control plane's.
            let _ = operator.follow(after, |row| rows.push(row)).await;
        });
        Ok(())
    }

    pub fn operator(&self) -> Result<Operator> {
        self.operator.clone().context("nobody is connected")
    }

    pub fn control_plane_pid(&self) -> Result<i32> {
        let child = self.control_plane.as_ref().context("no control plane runs")?;
        Ok(i32::try_from(child.id())?)
    }

    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(self.control_plane_pid()?).context("a pid")?;
        rustix::process::kill_process(pid, signal).context("signalling clawker-cp")
    }

    /// SIGKILL, and its end.
    pub fn kill(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        let mut child = self.control_plane.take().context("no control plane runs")?;
        child.wait().context("the control plane's end")?;
        Ok(())
    }

    /// Makes agents that don't run yet.
    pub fn create(&self, bench: &Bench, names: impl IntoIterator<Item = String>) -> Result<Vec<Member>> {
        let operator = self.operator()?;
        let make = move |name: String| {
            let mut operator = operator.clone();
            async move {
                let request = CreateAgentRequest {
                    project: PROJECT.into(),
                    agent: name,
                    image: rig::IMAGE.into(),
                    command: ["sleep", "100000"].map(str::to_owned).to_vec(),
                    ..CreateAgentRequest::default()
                };
                let (name, container) = operator.create(request).await?;
                Ok(Member { name, container })
            }
        };
        at_once(bench, names, make)
    }

    /// Makes and starts agents, until their commands run.
    pub fn run(&self, bench: &Bench, names: impl IntoIterator<Item = String>) -> Result<Vec<Member>> {
        let members = self.create(bench, names)?;
        let operator = self.operator()?;
        let start = move |member: Member| {
            let mut operator = operator.clone();
            async move { operator.start(&member.name).await }
        };
        at_once(bench, members.iter().cloned(), start).with_context(|| self.host.log_tail())?;
        Ok(members)
    }

    /// Starts containers behind the control plane's back.
    pub fn start_containers(&self, bench: &Bench, members: &[Member]) -> Result<()> {
        let docker = self.rig.docker.clone();
        let start = move |member: Member| {
            let docker = docker.clone();
            async move { tokio::task::spawn_blocking(move || docker.start(&member.container)).await? }
        };
        at_once(bench, members.iter().cloned(), start).map(drop)
    }

    pub fn remove(&self, bench: &Bench, members: &[Member]) -> Result<()> {
        let operator = self.operator()?;
        let remove = move |member: Member| {
            let mut operator = operator.clone();
            async move { operator.remove(&member.name).await }
        };
        at_once(bench, members.iter().cloned(), remove).map(drop)
    }

    /// Waits for a row of this kind of each of these agents, after `mark`; when the last one was seen.
    pub fn each(&self, bench: &Bench, mark: u64, kind: &str, members: &[Member]) -> Result<Instant> {
        let seen = bench.runtime.block_on(self.rows.each(mark, kind, members));
        seen.with_context(|| self.host.log_tail())
    }

    pub fn views(&self, bench: &Bench) -> Result<BTreeMap<String, AgentView>> {
        let mut operator = self.operator()?;
        let views = bench.runtime.block_on(operator.list())?;
        Ok(views
            .into_iter()
            .map(|view| (view.container_id.clone(), view))
            .collect())
    }

    /// Pids of both halves of clawkerd.
    pub fn halves(&self, member: &Member) -> Result<[i32; 2]> {
        let view = self
            .rig
            .docker
            .inspect(&member.container)?
            .context("the container is gone")?;
        let init = i32::try_from(view["State"]["Pid"].as_i64().unwrap_or(0))?;
        ensure!(init > 0, "{} doesn't run", member.name);
        let session = wait::until("a session half", PATIENCE, || {
            let children = std::fs::read_to_string(format!("/proc/{init}/task/{init}/children"))?;
            let half = |pid: &&str| std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == HALF);
            Ok(children.split_whitespace().find(half).map(str::to_owned))
        })?;
        Ok([init, session.parse()?])
    }
}

impl Drop for Scale {
    fn drop(&mut self) {
        self.following.abort_all();
        if let Some(mut child) = self.control_plane.take() {
            // It may have ended, or be stopped.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Runs `work` on each, [`FLIGHT`] at a time.
fn at_once<I, T, F, W>(bench: &Bench, items: I, work: W) -> Result<Vec<T>>
where
    I: IntoIterator,
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
    W: Fn(I::Item) -> F,
{
    bench.runtime.block_on(async {
        let (mut done, mut doing) = (Vec::new(), JoinSet::new());
        for item in items {
            if doing.len() >= FLIGHT
                && let Some(one) = doing.join_next().await
            {
                done.push(one??);
            }
            doing.spawn(work(item));
        }
        while let Some(one) = doing.join_next().await {
            done.push(one??);
        }
        Ok(done)
    })
}

/// PSS in MiB of some processes together.
pub fn pss(pids: &[i32]) -> Result<f64> {
    let mut kib = 0;
    for pid in pids {
        kib += procfs::memory(*pid)
            .with_context(|| format!("memory of {pid}"))?
            .pss_kib;
    }
    Ok(kib as f64 / 1024.0)
}

impl Rows {
    fn push(&self, row: Seen) {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(row);
        self.more.notify_waiters();
    }

    /// Number of the newest.
    pub fn last(&self) -> u64 {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.last().map_or(0, |row| row.seq)
    }

    /// Those after `mark` for which `wanted` holds.
    pub fn after(&self, mark: u64, wanted: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let new = rows.iter().rev().take_while(|row| row.seq > mark);
        new.filter(|row| wanted(row)).cloned().collect()
    }

    async fn each(&self, mark: u64, kind: &str, members: &[Member]) -> Result<Instant> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let more = self.more.notified();
            let mut missing: BTreeMap<&str, Option<Instant>> =
                members.iter().map(|member| (member.name.as_str(), None)).collect();
            for row in self.after(mark, |row| row.kind == kind) {
                if let Some(seen) = missing.get_mut(row.agent.as_str()) {
                    *seen = Some(row.at);
                }
            }
            let left = missing.values().filter(|seen| seen.is_none()).count();
            if left == 0 {
                return missing.into_values().flatten().max().context("no agents");
            }
            ensure!(!wait::interrupted(), "interrupted");
            let slice = deadline.saturating_duration_since(Instant::now());
            ensure!(!slice.is_zero(), "no {kind} of {left} of {} agents", members.len());
            let _ = tokio::time::timeout(slice.min(Duration::from_millis(200)), more).await;
        }
    }
}
