//! The task: sole owner of containment. Takes commands, rows, ticks and results, asks the engine, has it carried out.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use clawker_engine::containment::{self as engine, Force, Input, Output};
use clawker_model::event::{ActionFailed, Cause, ContainmentAsked, EgressDenied, Released, ThresholdCrossed};
use clawker_model::{Action, Axis, FullName, NetworkState, ProcessState, Row};
use clawker_netfilter::Netfilter;
use clawker_store::Store;
use tokio::sync::{broadcast, mpsc, watch as channel};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::agent::{Agent, Reply};
use super::apply::{self, Attached, Effect, ReadBack};
use super::journal::Journal;
use super::policies::{Judge, Queues, Rule};
use super::watch::{self, Finding};
use super::windows::Windows;
use super::{Answer, Command, ContainError, Target, View, Views, rows};
use crate::core::{Board, now_ms};

const TICK: Duration = Duration::from_secs(1);

pub(super) struct Parts {
    pub(super) store: Store,
    pub(super) netfilter: Netfilter,
    pub(super) board: Arc<Board>,
    pub(super) rules: Vec<Rule>,
    pub(super) judge: Arc<dyn Judge>,
    pub(super) shutdown: CancellationToken,
}

pub(super) struct Task {
    pub(super) parts: Parts,
    pub(super) journal: Journal,
    views: Views,
    pub(super) agents: HashMap<FullName, Agent>,
    pub(super) queues: Queues,
    pub(super) windows: Windows,
    past: rows::Past,
    pub(super) work: JoinSet<Done>,
    ticks: u64,
    looking: bool,
    degraded: bool,
}

/// What a piece of work came to.
pub(super) enum Done {
    Prepared {
        target: Box<Target>,
        netns: Result<clawker_netfilter::NetnsKey, String>,
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
    Nothing,
}

impl Task {
    pub(super) fn new(parts: Parts, views: Views) -> Self {
        Self {
            journal: Journal::new(parts.store.clone()),
            queues: Queues::new(parts.rules.len()),
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

    pub(super) async fn run(mut self, mut commands: mpsc::Receiver<Command>, mut bus: broadcast::Receiver<Arc<Row>>) {
        match rows::past(&self.parts.store, &self.parts.rules, &mut self.windows, now_ms()).await {
            Ok(past) => self.past = past,
            Err(error) => self.degrade(format!("reading the journal: {error}")),
        }
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
                row = bus.recv(), if rows_come => match row {
                    Ok(row) => self.row(row).await,
                    Err(broadcast::error::RecvError::Lagged(_)) => self.catch_up().await,
                    Err(broadcast::error::RecvError::Closed) => rows_come = false,
                },
            }
        }
    }

    async fn command(&mut self, command: Command) {
        let began = Instant::now();
        match command {
            Command::Adopt { agent, causes, done } => {
                self.adopt(&agent, causes).await;
                let _ = done.send(Ok(()));
            }
            Command::Attach { target, reply } => {
                let netfilter = self.parts.netfilter.clone();
                self.work.spawn_blocking(move || {
                    let netns = target.netns.try_clone().map_err(|error| error.to_string());
                    let netns =
                        netns.and_then(|fd| netfilter.attach(fd, target.start).map_err(|error| error.to_string()));
                    Done::Prepared {
                        target: Box::new(target),
                        netns,
                        reply,
                        began,
                    }
                });
            }
            Command::Settle { agent, start, reply } => {
                if !self.agents.get(&agent).is_some_and(|agent| agent.is_at(start)) {
                    let _ = reply.send(Err(ContainError::NotAttached { agent, start }));
                    return;
                }
                let reply = Reply::Start(reply, start);
                self.take(
                    &agent,
                    vec![Input::Settled],
                    Some((vec![Axis::Processes], began, reply)),
                )
                .await;
            }
            Command::Detach { agent, start, done } => {
                if self.agents.get(&agent).is_some_and(|agent| agent.is_at(start)) {
                    self.leave(&agent, None);
                    self.take(&agent, vec![Input::Detached], None).await;
                }
                let _ = done.send(Ok(()));
            }
            Command::Forget { agent, done } => {
                self.leave(&agent, None);
                self.agents.remove(&agent);
                self.queues.forget(&agent);
                self.windows.forget(&agent);
                self.views.lock().unwrap_or_else(PoisonError::into_inner).remove(&agent);
                let _ = done.send(Ok(()));
            }
            Command::Contain {
                agent,
                action,
                by,
                reason,
                reply,
            } => {
                if !self.agents.contains_key(&agent) {
                    let _ = reply.send(Err(ContainError::Unknown { agent }));
                    return;
                }
                self.hurry(&agent, &action);
                let axes = action.axis().into_iter().collect();
                let cause = Cause {
                    by,
                    action,
                    reason,
                    event: 0,
                    at_ms: now_ms(),
                };
                self.take(
                    &agent,
                    vec![Input::Asked { cause }],
                    Some((axes, began, Reply::Operator(reply))),
                )
                .await;
            }
            Command::Release { agent, by, reply } => {
                if !self.agents.contains_key(&agent) {
                    let _ = reply.send(Err(ContainError::Unknown { agent }));
                    return;
                }
                let axes = vec![Axis::Network, Axis::Processes, Axis::Identity];
                self.take(
                    &agent,
                    vec![Input::Released { by }],
                    Some((axes, began, Reply::Operator(reply))),
                )
                .await;
            }
            Command::Reverify { agent, done } => {
                let axes = vec![Axis::Network, Axis::Processes];
                let inputs = self.disturb(&agent);
                if !self.agents.contains_key(&agent) {
                    let _ = done.send(Ok(()));
                    return;
                }
                self.take(&agent, inputs, Some((axes, began, Reply::Nothing(done))))
                    .await;
            }
            Command::End { agent, reply } => {
                let attached = self.agents.get(&agent).and_then(|agent| agent.attached.clone());
                self.work.spawn(async move {
                    let ended = match attached {
                        Some(attached) => apply::end(attached).await,
                        None => Ok(()),
                    };
                    let _ = reply.send(ended.map_err(|error| ContainError::End { agent, error }));
                    Done::Nothing
                });
            }
        }
    }

    async fn adopt(&mut self, name: &FullName, causes: Vec<Cause>) {
        self.agents.entry(name.clone()).or_insert_with(|| {
            let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
            let view = views
                .entry(name.clone())
                .or_insert_with(|| channel::Sender::new(View::default()));
            Agent::new(name.clone(), view.clone())
        });
        self.take(name, vec![Input::Adopted { causes }], None).await;
        for (rule, row) in self.past.unjudged.remove(name).unwrap_or_default() {
            self.offer(rule, name, row).await;
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
            Done::Nothing => {}
        }
    }

    async fn attach(
        &mut self,
        target: Target,
        netns: Result<clawker_netfilter::NetnsKey, String>,
        reply: Answer<View>,
        began: Instant,
    ) {
        let (name, start) = (target.agent.clone(), target.start);
        if !matches!(target.init.is_alive(), Ok(true)) {
            // Its detach may have come while its namespace was being opened.
            if let Ok(key) = netns {
                self.parts.netfilter.detach(&key);
            }
            let _ = reply.send(Err(ContainError::NotAttached { agent: name, start }));
            return;
        }
        if !self.agents.contains_key(&name) {
            self.adopt(&name, Vec::new()).await;
        }
        let attached = Arc::new(Attached {
            target,
            netns,
            hurry: false.into(),
        });
        let Some(agent) = self.agents.get_mut(&name) else {
            return;
        };
        let inputs = if agent.is_at(start) {
            // The same start on another connection: what is in force may stay, and is looked at again.
            agent.attached = Some(attached);
            self.disturb(&name)
        } else {
            self.leave(&name, Some(attached));
            vec![Input::Attached]
        };
        let axes = match self.agents.get(&name) {
            Some(agent) if super::is_ended(&agent.state.asked()) => vec![Axis::Network, Axis::Processes],
            _ => vec![Axis::Network],
        };
        self.take(&name, inputs, Some((axes, began, Reply::Start(reply, start))))
            .await;
    }

    /// Ends what is known of an earlier start.
    fn leave(&mut self, name: &FullName, next: Option<Arc<Attached>>) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        if let Some(Ok(key)) = agent.attached.as_ref().map(|attached| attached.netns.clone()) {
            self.parts.netfilter.detach(&key);
        }
        agent.begin(next);
    }

    /// Looks again at all that an attached agent ought to have.
    fn disturb(&self, name: &FullName) -> Vec<Input> {
        let Some(agent) = self.agents.get(name).filter(|agent| agent.state.is_attached()) else {
            return Vec::new();
        };
        let mut inputs = vec![Input::Disturbed { axis: Axis::Network }];
        if agent.state.asked().processes != ProcessState::Running {
            inputs.push(Input::Disturbed { axis: Axis::Processes });
        }
        inputs
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

    async fn carry_out(&mut self, name: &FullName, output: Output) {
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
        rows::note_denied(&mut self.past.denied, &row);
        let Some(name) = row.agent.clone().filter(|name| self.agents.contains_key(name)) else {
            return;
        };
        for rule in 0..self.parts.rules.len() {
            if self.parts.rules[rule].wants(row.event.kind()) {
                self.offer(rule, &name, row.clone()).await;
            }
        }
    }

    /// The bus dropped rows: the journal has them.
    async fn catch_up(&mut self) {
        match rows::missed(&self.parts.store, self.past.last_seq).await {
            Ok(missed) => {
                for row in missed {
                    self.row(row).await;
                }
            }
            Err(error) => self.degrade(format!("reading rows that the bus dropped: {error}")),
        }
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        let names: Vec<FullName> = self.agents.keys().cloned().collect();
        for name in names {
            if let Some(agent) = self.agents.get_mut(&name) {
                for output in engine::step(&mut agent.state, Input::Tick, now_ms()) {
                    self.carry_out(&name, output).await;
                }
            }
        }
        if self.journal.missed() {
            self.degrade("rows of containment may be missing".to_owned());
        } else if std::mem::take(&mut self.degraded) {
            let board = self.parts.board.clone();
            self.work.spawn(async move {
                board.recovered("containment").await;
                Done::Nothing
            });
        }
        let subjects = self.subjects();
        if !self.looking && !subjects.is_empty() {
            self.looking = true;
            let netfilter = self.parts.netfilter.clone();
            self.work
                .spawn_blocking(move || Done::Looked(watch::look_at(&netfilter, subjects)));
        }
    }

    fn subjects(&self) -> Vec<watch::Subject> {
        let all = self.ticks.is_multiple_of(watch::VERIFY_EVERY);
        let subject = |agent: &Agent| {
            let (attached, asked) = (agent.attached.clone()?, agent.state.asked());
            let mut verify = Vec::new();
            if all && agent.state.is_in_force(Axis::Network) {
                verify.push(Force::Network(asked.network));
            }
            if all && asked.processes == ProcessState::Frozen && agent.state.is_in_force(Axis::Processes) {
                verify.push(Force::Processes(asked.processes));
            }
            let restricted = agent.is_restricted();
            let interesting = restricted || !verify.is_empty();
            interesting.then(|| watch::Subject {
                agent: agent.name.clone(),
                epoch: agent.epoch,
                attached,
                restricted,
                verify,
            })
        };
        self.agents.values().filter_map(subject).collect()
    }

    async fn found(&mut self, finding: Finding) {
        let name = finding.agent;
        let Some(agent) = self.agents.get_mut(&name).filter(|agent| agent.epoch == finding.epoch) else {
            return;
        };
        if let (Some(total), Some(before)) = (finding.denied, agent.denied)
            && total > before
            && agent.is_restricted()
        {
            let event = EgressDenied {
                count: total - before,
                total,
            };
            // Not written is not reported: the next look reports it.
            if self.journal.note(&name, event).await != 0
                && let Some(agent) = self.agents.get_mut(&name)
            {
                agent.denied = Some(total);
            }
        }
        let inputs = finding
            .disturbed
            .into_iter()
            .map(|axis| Input::Disturbed { axis })
            .collect();
        self.take(&name, inputs, None).await;
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

    /// A kill waits for no stop.
    pub(super) fn hurry(&self, name: &FullName, action: &Action) {
        if let (Action::Kill, Some(attached)) = (action, self.agents.get(name).and_then(|a| a.attached.as_ref())) {
            attached.hurry.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
}
