//! The task: sole owner of containment. Takes commands, rows, ticks and results, asks the engine, has it carried out.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clawker_engine::containment::{self as engine, Force, Input, Output};
use clawker_model::event::{ActionFailed, ContainmentAsked, Released, ThresholdCrossed};
use clawker_model::{Axis, FullName, NetworkState, Row};
use clawker_netfilter::{Netfilter, NetnsKey};
use clawker_plugin_host::Windows;
use clawker_store::Store;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Reply};
use super::apply::{self, Effect, ReadBack};
use super::journal::Journal;
use super::policies::Rule;
use super::queues::Queues;
use super::replace::{Beside, Promotions, Replacing};
use super::watch::Finding;
use super::{Answer, Command, Target, View, Views, rows};
use crate::bus::{Notice, Subscription};
use crate::core::{Board, now_ms};

const TICK: Duration = Duration::from_secs(1);

pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) netfilter: Netfilter,
    pub(super) board: Arc<Board>,
    pub(super) rules: Vec<Rule>,
    pub(super) promotions: Promotions,
    pub(super) shutdown: CancellationToken,
}

pub(super) struct Task {
    pub(super) parts: Parts,
    pub(super) journal: Journal,
    pub(super) views: Views,
    pub(super) agents: HashMap<FullName, Agent>,
    /// Policies by their place; one that is gone leaves its place empty.
    pub(super) rules: Vec<Option<Arc<Rule>>>,
    /// Replaced, with evaluations under way.
    pub(super) draining: Vec<Arc<Rule>>,
    pub(super) replacing: Option<Replacing>,
    pub(super) trials: Vec<Beside>,
    pub(super) queues: Queues,
    pub(super) windows: Windows,
    pub(super) past: rows::Past,
    pub(super) work: JoinSet<Done>,
    pub(super) ticks: u64,
    pub(super) looking: bool,
    pub(super) degraded: bool,
}

/// What a piece of work came to.
pub(super) enum Done {
    Prepared {
        target: Box<Target>,
        netns: Result<NetnsKey, String>,
        reply: Answer<View>,
        began: Instant,
    },
    Effect {
        agent: FullName,
        epoch: u64,
        force: Force,
        result: Result<ReadBack, String>,
    },
    Decided(Box<super::verdicts::Decided>),
    Looked(Vec<Finding>),
    /// Windows that weren't counted before.
    Counted(Result<Windows, String>),
    Nothing,
}

impl Task {
    pub(super) fn new(parts: Parts, views: Views) -> Self {
        Self {
            journal: Journal::new(parts.store.clone()),
            rules: Vec::new(),
            draining: Vec::new(),
            replacing: None,
            trials: Vec::new(),
            queues: Queues::default(),
            windows: Windows::new(parts.rules.iter().flat_map(|rule| &rule.windows)),
            parts,
            views,
            agents: HashMap::new(),
            past: rows::Past::default(),
            work: JoinSet::new(),
            ticks: 0,
            looking: false,
            degraded: false,
        }
    }

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut bus: Subscription) {
        match rows::past(&self.parts.store, &self.parts.rules, &mut self.windows, now_ms()).await {
            Ok(past) => self.past = past,
            Err(error) => self.degrade(format!("reading the journal: {error}")),
        }
        let rules = std::mem::take(&mut self.parts.rules);
        self.take_places(rules).await;
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let shutdown = self.parts.shutdown.clone();
        let mut rows_come = true;
        loop {
            // Biased: what people and agents wait for goes before the rows that a flood may bring.
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => self.command(command).await,
                    None => break,
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    Err(error) => tracing::error!(%error, "a piece of containment's work is lost"),
                },
                _ = ticks.tick() => self.tick().await,
                notice = bus.next(), if rows_come => match notice {
                    Ok(Some(Notice::Row(row))) => self.row(row).await,
                    // They follow, one by one, so that commands aren't kept waiting.
                    Ok(Some(Notice::Lagged(rows))) => tracing::warn!(rows, "containment is late"),
                    Ok(None) => rows_come = false,
                    Err(error) => self.degrade(format!("reading rows that the bus dropped: {error}")),
                },
            }
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Prepared {
                target,
                netns,
                reply,
                began,
            } => self.attach(*target, netns, reply, began).await,
            Done::Effect {
                agent,
                epoch,
                force,
                result,
            } => self.effect(&agent, epoch, force, result).await,
            Done::Decided(decided) => self.decided(*decided).await,
            Done::Looked(findings) => {
                self.looking = false;
                for finding in findings {
                    self.found(finding).await;
                }
            }
            Done::Counted(counted) => self.counted(counted).await,
            Done::Nothing => {}
        }
    }

    async fn effect(&mut self, name: &FullName, epoch: u64, force: Force, result: Result<ReadBack, String>) {
        // An identity's effect belongs to no start.
        let axis = force.axis();
        let Some(agent) = self
            .agents
            .get_mut(name)
            .filter(|a| a.epoch == epoch || axis == Axis::Identity)
        else {
            return;
        };
        let input = match result {
            Ok(read) => {
                agent.read(axis, read.text);
                if let (Force::Network(state), Some(denied)) = (&force, read.denied) {
                    let reported = self.past.denied.entry(name.clone()).or_insert(0);
                    match state {
                        NetworkState::Restricted { .. } if agent.denied.is_none() => {
                            agent.denied = Some(denied.min(*reported));
                        }
                        NetworkState::Restricted { .. } => {}
                        // What is dropped by a lock isn't an attempt that a restriction denied.
                        NetworkState::Locked | NetworkState::Open => (agent.denied, *reported) = (None, u64::MAX),
                    }
                }
                Input::Applied { force }
            }
            Err(error) => {
                agent.failed(axis, error.clone());
                Input::Failed { force, error }
            }
        };
        self.take(name, vec![input], None).await;
    }

    /// Gives inputs to the engine, carries out what it says, shows it; then lets `waiter` wait for what is under way.
    pub(super) async fn take(
        &mut self,
        name: &FullName,
        inputs: Vec<Input>,
        waiter: Option<(Vec<Axis>, Instant, Reply)>,
    ) {
        for input in inputs {
            let Some(agent) = self.agents.get_mut(name) else { return };
            let outputs = engine::step(&mut agent.state, input, now_ms());
            for output in outputs {
                self.carry_out(name, output).await;
            }
        }
        let Some(agent) = self.agents.get_mut(name) else { return };
        if let Some((axes, began, reply)) = waiter {
            agent.wait(axes, began, reply);
        }
        agent.publish();
    }

    pub(super) async fn carry_out(&mut self, name: &FullName, output: Output) {
        let row = match output {
            Output::Ask { cause, asked } => self.journal.note(name, ContainmentAsked { cause, asked }).await,
            Output::Release { by, causes, asked } => self.journal.note(name, Released { by, causes, asked }).await,
            Output::Apply { force, verify } => return self.start(name, force, verify),
            Output::Fail { force, error, escalate } => {
                let (axis, action) = (force.axis(), apply::name(&force).to_owned());
                self.journal
                    .note(
                        name,
                        ActionFailed {
                            axis,
                            action,
                            error,
                            escalate,
                        },
                    )
                    .await;
                return;
            }
            Output::Alert { reason } => {
                tracing::warn!(agent = %name, reason, "alert");
                self.journal
                    .note(
                        name,
                        ThresholdCrossed {
                            what: "alert".to_owned(),
                            detail: reason,
                        },
                    )
                    .await;
                return;
            }
        };
        if let Some(agent) = self.agents.get_mut(name) {
            agent.cause = row;
        }
    }

    fn start(&mut self, name: &FullName, force: Force, verify: bool) {
        let Some(agent) = self.agents.get(name) else { return };
        let effect = Effect {
            agent: name.clone(),
            attached: agent.attached.clone(),
            force: force.clone(),
            verify,
            cause: agent.cause,
            by: agent.revoker(),
        };
        let (netfilter, journal) = (self.parts.netfilter.clone(), self.journal.clone());
        let (agent, epoch) = (name.clone(), agent.epoch);
        self.work.spawn(async move {
            let result = apply::perform(netfilter, journal, effect).await;
            Done::Effect {
                agent,
                epoch,
                force,
                result,
            }
        });
    }

    async fn row(&mut self, row: Arc<Row>) {
        if row.seq <= self.past.last_seq {
            return;
        }
        self.past.last_seq = row.seq;
        self.windows.note(&row);
        self.keep_for_count(&row);
        rows::note_denied(&mut self.past.denied, &row);
        let Some(name) = row.agent.clone().filter(|name| self.agents.contains_key(name)) else {
            return;
        };
        self.not_asked(&row);
        for place in 0..self.rules.len() {
            let rule = self.rules.get(place).and_then(Option::as_ref);
            if rule.is_some_and(|rule| rule.wants(row.event.kind())) {
                self.offer(place, &name, row.clone()).await;
            }
        }
    }

    pub(super) fn degrade(&mut self, detail: String) {
        self.degraded = true;
        let board = self.parts.board.clone();
        // The board writes to the journal, which may be what is amiss: nobody waits for it.
        self.work.spawn(async move {
            board.degraded("containment", detail).await;
            Done::Nothing
        });
    }
}
