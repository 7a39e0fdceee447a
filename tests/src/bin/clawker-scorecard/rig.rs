//! The control plane's own containment in this process: the real task, journal, plugin host, policy and netfilter,
//! with a plain container for an agent. So a moment before an event and one after its read-back are on one clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clawker_control_plane::config::{Config, PolicyConfig};
use clawker_control_plane::containment::{self, Deps, Handle, Kernel, Reach, Target, View};
use clawker_control_plane::core::Board;
use clawker_control_plane::plugins::{Keys, Plugins};
use clawker_model::event::ContainerOom;
use clawker_model::{Action, ContainerId, Containment, Event, FullName, NetworkState, ProcessState};
use clawker_netfilter::Netfilter;
use clawker_proc::cgroup::AgentCgroup;
use clawker_proc::pidfd::PidFd;
use clawker_proc::procfs;
use clawker_store::Store;
use clawker_tests::bins;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::plain::Plain;

const PATIENCE: Duration = Duration::from_secs(20);

pub struct Rig {
    store: Store,
    handle: Handle,
    agent: FullName,
    container: ContainerId,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    _state: tempfile::TempDir,
}

impl Rig {
    /// Watches `plain` with egress-guard, which acts on every event instead of every second one.
    pub async fn watch(plain: &Plain) -> Result<Self> {
        let state = tempfile::Builder::new()
            .prefix(&format!("{}-", crate::NAME))
            .tempdir()?;
        let store = Store::open(state.path(), "scorecard")?;
        let config = Config {
            plan: Vec::new(),
            policies: vec![PolicyConfig {
                plugin: "egress-guard".into(),
                settings: [("threshold".to_owned(), 1.into())].into_iter().collect(),
                fallback: "alert".into(),
                fail_mode: "open".into(),
                mode: "enforce".into(),
            }],
            state_dir: state.path().to_owned(),
            ..Config::default()
        };
        let plugins = Plugins::load(&config, &bins::libexec()?, Keys::of(&store))?;
        let (promotions, _) = tokio::sync::mpsc::unbounded_channel();
        let (shutdown, tasks) = (CancellationToken::new(), TaskTracker::new());
        let handle = containment::spawn(Deps {
            store: store.clone(),
            netfilter: Netfilter::start()?,
            policies: plugins.policies()?,
            host: plugins.host,
            promotions,
            board: Arc::new(Board::new(store.clone())),
            tasks: tasks.clone(),
            shutdown: shutdown.clone(),
        });
        let rig = Self {
            store,
            handle,
            agent: FullName::parse("clawker.score.peer")?,
            container: ContainerId::parse(&plain.id)?,
            shutdown,
            tasks,
            _state: state,
        };
        rig.handle.adopt(&rig.agent, Vec::new()).await;
        let init_pid = plain.init_pid()?;
        let target = Target {
            agent: rig.agent.clone(),
            container: rig.container.clone(),
            start: 1,
            reach: Reach::Kernel(Kernel {
                init: Arc::new(PidFd::open(init_pid)?),
                init_pid,
                init_is_ours: true,
                netns: procfs::open_netns(init_pid)?,
                cgroup: plain.cgroup()?,
            }),
        };
        rig.handle.attach(target).await?;
        Ok(rig)
    }

    /// An event as Docker's stream would bring it, until what is in force and read back is as `wanted`: microseconds.
    pub async fn event(&self, wanted: impl Fn(&Containment) -> bool) -> Result<f64> {
        let mut view = self.views()?;
        let began = Instant::now();
        let event = ContainerOom {
            container: self.container.clone(),
        };
        self.store.append(Some(&self.agent), event).await?;
        until(&mut view, wanted).await?;
        Ok(began.elapsed().as_secs_f64() * 1e6)
    }

    /// Its network, by an operator.
    pub async fn lock(&self) -> Result<()> {
        let (by, why) = ("operator:uid:0", "measured");
        self.handle.contain(&self.agent, Action::LockNetwork, by, why).await?;
        Ok(())
    }

    /// Everything open and running again, as at the beginning.
    pub async fn release(&self) -> Result<()> {
        self.handle.release(&self.agent, "operator:uid:0").await?;
        until(&mut self.views()?, |now| *now == Containment::default()).await
    }

    fn views(&self) -> Result<tokio::sync::watch::Receiver<View>> {
        self.handle.watch(&self.agent).context("the agent is adopted")
    }

    /// Where the time went, by the journal: medians of what the policy and the kernel took, in microseconds.
    pub async fn parts(&self, action: &str) -> Result<(f64, f64)> {
        let (mut policy, mut kernel) = (Vec::new(), Vec::new());
        let mut after = 0;
        loop {
            let rows = self.store.rows(after, 1000, None, None).await?;
            let Some(last) = rows.last() else { break };
            after = last.seq;
            for row in &rows {
                match &row.event {
                    Event::PolicyDecided(decided) => {
                        ensure!(
                            decided.unavailable.is_none(),
                            "the policy failed: {:?}",
                            decided.unavailable
                        );
                        policy.push(decided.micros as f64);
                    }
                    Event::ActionApplied(applied) if applied.action == action => kernel.push(applied.micros as f64),
                    _ => {}
                }
            }
        }
        let median = |values| crate::stats::Samples::of(values).p50();
        Ok((median(policy), median(kernel)))
    }

    /// What a row costs its writer, projection included: microseconds, the median of many, one after the other.
    pub async fn row(&self) -> Result<f64> {
        let nobody = FullName::parse("clawker.score.nobody")?;
        let mut micros = Vec::new();
        for _ in 0..200 {
            let event = ContainerOom {
                container: self.container.clone(),
            };
            let began = Instant::now();
            self.store.append(Some(&nobody), event).await?;
            micros.push(began.elapsed().as_secs_f64() * 1e6);
        }
        Ok(crate::stats::Samples::of(micros).p50())
    }

    pub async fn end(self) {
        self.shutdown.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.store.close().await;
    }
}

async fn until(view: &mut tokio::sync::watch::Receiver<View>, wanted: impl Fn(&Containment) -> bool) -> Result<()> {
    let holds = |view: &View| view.in_force.as_ref().is_some_and(&wanted);
    let waited = tokio::time::timeout(PATIENCE, view.wait_for(holds)).await;
    let ended = waited.map(|seen| seen.map(drop));
    match ended {
        Ok(seen) => seen.context("containment ended"),
        Err(_) => anyhow::bail!("it stays {:?}", *view.borrow()),
    }
}

pub fn is_locked(now: &Containment) -> bool {
    now.network == NetworkState::Locked
}

pub fn is_frozen(now: &Containment) -> bool {
    now.processes == ProcessState::Frozen
}

/// Puts every process of the container but its init where clawkerd puts the user's.
pub fn move_into_agent_cgroup(plain: &Plain) -> Result<usize> {
    let agent = AgentCgroup::create(&plain.cgroup()?)?;
    let init = plain.init_pid()?;
    let users: Vec<i32> = clawker_tests::agent::processes_of(&plain.id)?
        .into_iter()
        .map(|process| process.pid)
        .filter(|pid| *pid != init)
        .collect();
    let procs = std::fs::File::from(agent.procs_fd()?);
    for pid in &users {
        std::io::Write::write_all(&mut &procs, pid.to_string().as_bytes())?;
    }
    ensure!(!users.is_empty(), "the container has no process but its init");
    Ok(users.len())
}
