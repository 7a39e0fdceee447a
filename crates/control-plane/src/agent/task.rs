//! One agent's task: sole owner of what is known of its container, its current start and its connection.
//!
//! ```text
//!            connection attested as a new init                 pidfd readable
//!   idle ───────────────────────────────────────▶ start n ───────────────────────▶ ended: exit code journaled
//!    ▲                                             │   ▲                              │        │ --rm: removed
//!    └──────────────── next start ─────────────────┼───┼──────────────────────────────┘
//!                                                  ▼   │ connection lost, successor within 2 s or SessionBroken
//!                                        connection: connecting ▶ connected
//! ```
//! One that has ended may be started again ([`restart`]). Where the engine is elsewhere, the control plane makes the
//! connection and the engine tells of starts and ends ([`elsewhere`]).
//!
//! Attestation and connections run in tasks that this one owns; the newest attested connection is the session.

mod cycle;
mod elsewhere;
mod foreign;
mod restart;
mod resume;
mod start;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use clawker_model::event::SessionConnecting;
use clawker_model::{ContainerId, FullName, RunId};
use clawker_wire::session::Exited;
use tokio::io::unix::AsyncFd;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::attest::{Attested, Init, Unattested, attest};
use super::ceiling::Unclosed;
use super::drive::{Context, End, drive};
use super::identity::PeerCell;
use super::listen::Listeners;
use super::session::Session;
use super::status::{AgentHandle, AgentStatus, SessionState, Trust};
use super::{AgentError, service};
use crate::core::Core;

/// Connections of one agent that are being attested at a time; more are closed at once.
const MAX_ATTESTING: usize = 8;
/// How long a lost session may go unmentioned if a successor comes.
const SUCCESSOR: Duration = Duration::from_secs(2);
/// After this long of a running container without a session, it is said, again and again.
const CYCLE: Duration = Duration::from_secs(60);

/// Whom a task looks after.
#[derive(Debug, Clone)]
pub struct Subject {
    pub name: FullName,
    pub container: ContainerId,
    pub run: RunId,
    /// Why a container with our labels isn't an agent of ours, where it was judged.
    pub refused: Option<Arc<str>>,
}

/// Starts the task of an agent; it ends with `stop`.
pub fn spawn(core: Arc<Core>, subject: Subject, listeners: Option<Listeners>, stop: CancellationToken) -> AgentHandle {
    let (status, status_seen) = watch::channel(AgentStatus::new(subject.container.clone()));
    let (session, session_seen) = watch::channel(None);
    let handle = AgentHandle {
        name: subject.name.clone(),
        status: status_seen,
        session: session_seen,
        hints: Arc::new(Notify::new()),
        held: Arc::new(AtomicUsize::new(0)),
        leaked: Arc::new(Notify::new()),
    };
    let (main_exited, main_exits) = mpsc::channel(4);
    let task = AgentTask {
        hints: handle.hints.clone(),
        held: handle.held.clone(),
        leaked: handle.leaked.clone(),
        unclosed: Unclosed::default(),
        status: Arc::new(status),
        session: Arc::new(session),
        cell: Arc::default(),
        life: None,
        ended_start: 0,
        labels: None,
        attesting: JoinSet::new(),
        serving: JoinSet::new(),
        foreign: foreign::Said::default(),
        driving: JoinSet::new(),
        starting: JoinSet::new(),
        restarting: restart::Restarting::default(),
        dialling: elsewhere::Dialling::default(),
        lost: None,
        at_ceiling: false,
        attempts: 0,
        cycle: Instant::now() + CYCLE,
        main_exited,
        core: core.clone(),
        subject,
    };
    let tracker = core.tasks.clone();
    tracker.spawn(task.run(listeners, main_exits, stop));
    handle
}

struct AgentTask {
    core: Arc<Core>,
    subject: Subject,
    hints: Arc<Notify>,
    held: Arc<AtomicUsize>,
    leaked: Arc<Notify>,
    unclosed: Unclosed,
    status: Arc<watch::Sender<AgentStatus>>,
    session: Arc<watch::Sender<Option<Session>>>,
    cell: Arc<PeerCell>,
    /// The init that runs now.
    life: Option<Life>,
    /// The latest start whose end was journaled by this task.
    ended_start: u64,
    labels: Option<FullName>,
    attesting: JoinSet<(UnixStream, Result<Attested, Unattested>)>,
    serving: JoinSet<Option<Unattested>>,
    foreign: foreign::Said,
    driving: JoinSet<Result<End, AgentError>>,
    /// Docker, starting it again after that end.
    starting: JoinSet<(String, Result<(), AgentError>)>,
    restarting: restart::Restarting,
    /// For an agent elsewhere.
    dialling: elsewhere::Dialling,
    /// When an established session was lost, and why, until it is said or a successor came.
    lost: Option<(Instant, String)>,
    /// In this cycle a session was refused for want of descriptors.
    at_ceiling: bool,
    attempts: u32,
    cycle: Instant,
    main_exited: mpsc::Sender<(u64, Exited)>,
}

struct Life {
    init: Arc<Init>,
    start: u64,
    began: Instant,
    /// Its pidfd; without one, only its engine tells of its death.
    died: Option<AsyncFd<std::os::fd::OwnedFd>>,
    main: Option<Exited>,
}

impl AgentTask {
    async fn run(
        mut self,
        listeners: Option<Listeners>,
        mut main_exits: mpsc::Receiver<(u64, Exited)>,
        stop: CancellationToken,
    ) {
        if !self.resume().await {
            self.restarting.first_look = true;
            self.look().await;
            self.restarting.first_look = false;
        }
        loop {
            let restart_at = self.restarting.planned.as_ref().map(|(due, _)| *due);
            let broken_at = self.lost.as_ref().map(|(since, _)| *since + SUCCESSOR);
            let failed_at = self.waiting().then_some(self.cycle);
            let dial_at = self.dial_at();
            tokio::select! {
                () = stop.cancelled() => return,
                accepted = accept(listeners.as_ref().map(|both| &both.session)) => match accepted {
                    Ok(stream) => self.accepted(stream).await,
                    Err(error) => self.accept_failed(error).await,
                },
                accepted = accept(listeners.as_ref().map(|both| &both.agent)) => match accepted {
                    Ok(stream) => self.serve(stream),
                    Err(error) => self.accept_failed(error).await,
                },
                Some(attested) = self.attesting.join_next() => if let Ok((stream, attested)) = attested {
                    self.attested(stream, attested).await;
                },
                Some(served) = self.serving.join_next() => if let Ok(Some(why)) = served {
                    self.unattested(why).await;
                },
                Some(ended) = self.driving.join_next() => self.drive_ended(ended).await,
                () = died(self.life.as_ref()) => self.died().await,
                Some((start, exited)) = main_exits.recv() => if let Some(life) = &mut self.life && life.start == start {
                    life.main = Some(exited);
                },
                () = self.hints.notified() => self.look().await,
                () = at(broken_at) => self.say_broken().await,
                () = at(restart_at) => self.restart_due().await,
                Some(started) = self.starting.join_next() => if let Ok((end, started)) = started {
                    self.restarted(end, started).await;
                },
                () = at(failed_at) => self.say_failed().await,
                () = at(dial_at) => self.dial().await,
                Some(done) = self.dialling.done() => self.dialled(done).await,
            }
        }
    }

    fn name(&self) -> &FullName {
        &self.subject.name
    }

    fn address(&self) -> String {
        match &self.dialling.address {
            Some(address) => address.clone(),
            None if self.core.config.engine.is_elsewhere() => "tcp:unknown".to_owned(),
            None => format!("unix:{}", self.subject.run),
        }
    }

    async fn append(&self, event: impl Into<clawker_model::Event>) {
        if let Err(error) = self.core.store.append(Some(self.name()), event.into()).await {
            self.core.board.degraded("journal", error.to_string()).await;
        }
    }

    async fn accept_failed(&self, error: std::io::Error) {
        // Out of descriptors, most likely: said, and tried again, not in a tight loop.
        self.core
            .board
            .degraded("sessions", format!("{}: accept: {error}", self.name()))
            .await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    async fn accepted(&mut self, stream: UnixStream) {
        if self.attesting.len() >= MAX_ATTESTING {
            return;
        }
        self.attempts = self.attempts.saturating_add(1);
        if self.status.borrow().session == SessionState::None {
            self.status
                .send_modify(|status| status.session = SessionState::Connecting);
            self.append(SessionConnecting {
                address: self.address(),
            })
            .await;
        }
        let known = self.life.as_ref().map(|life| life.init.clone());
        let (core, container) = (self.core.clone(), self.subject.container.clone());
        self.attesting.spawn(async move {
            let cgroup = core.cgroup_path(&container);
            let attested = attest(&core.docker, &container, &cgroup, &stream, known).await;
            (stream, attested)
        });
    }

    /// The agent socket: attested the same way, then served until it closes.
    fn serve(&mut self, stream: UnixStream) {
        if self.serving.len() >= MAX_ATTESTING {
            return;
        }
        let known = self.life.as_ref().map(|life| life.init.clone());
        let (core, subject, cell) = (self.core.clone(), self.subject.clone(), self.cell.clone());
        self.serving.spawn(async move {
            let cgroup = core.cgroup_path(&subject.container);
            if let Err(why) = attest(&core.docker, &subject.container, &cgroup, &stream, known).await {
                return Some(why);
            }
            if let Err(error) = service::serve(core, subject.name.clone(), subject.container, cell, stream).await {
                tracing::debug!(agent = %subject.name, %error, "agent socket");
            }
            None
        });
    }

    async fn attested(&mut self, stream: UnixStream, attested: Result<Attested, Unattested>) {
        let attested = match attested {
            Ok(attested) => attested,
            Err(why) => return self.unattested(why).await,
        };
        if let Some(inspect) = &attested.inspect {
            self.labels = self.core.labels().name_in(&inspect.labels);
        }
        let Some(start) = self.begin(&attested.init).await else {
            return;
        };
        // The newest attested connection is the session; the one before it ends here.
        self.driving.shutdown().await;
        let Some(open) = self.unclosed.open() else {
            self.at_ceiling = true;
            return;
        };
        let ctx = Context {
            attempts: std::mem::take(&mut self.attempts),
            ..self.context(attested.init, start)
        };
        self.driving.spawn(drive(ctx, stream, open, self.main_exited.clone()));
    }

    fn context(&self, init: Arc<Init>, start: u64) -> Context {
        Context {
            core: self.core.clone(),
            name: self.name().clone(),
            container: self.subject.container.clone(),
            run: self.subject.run.clone(),
            refused: self.subject.refused.clone(),
            address: self.address(),
            init,
            start,
            attempts: 0,
            labels: self.labels.clone(),
            cell: self.cell.clone(),
            status: self.status.clone(),
            session: self.session.clone(),
            leaked: self.leaked.clone(),
        }
    }

    async fn drive_ended(&mut self, ended: Result<Result<End, AgentError>, tokio::task::JoinError>) {
        self.session.send_replace(None);
        self.status.send_modify(|status| status.session = SessionState::None);
        let (established, why) = match ended {
            Ok(Ok(End::Lost { established, why })) => (established, why),
            Ok(Ok(End::Revoked | End::Leaked)) => {
                self.status.send_modify(|status| status.trust = Trust::Unknown);
                self.dial_again(true);
                return;
            }
            Ok(Err(error)) => (false, error.to_string()),
            Err(error) if error.is_cancelled() => return,
            Err(error) => {
                self.core
                    .board
                    .degraded("sessions", format!("{}: {error}", self.name()))
                    .await;
                (false, error.to_string())
            }
        };
        tracing::info!(agent = %self.name(), why, "session ended");
        if established && self.life.is_some() {
            self.lost = Some((Instant::now(), why));
        }
        self.dial_again(established);
        if self.core.config.engine.is_elsewhere() {
            // Perhaps because the container has ended, which nobody else notices as soon.
            self.look().await;
        }
    }

    /// The init's pidfd became readable.
    async fn died(&mut self) {
        self.end_life().await;
    }
}

/// Resolves when the init is dead; never without one.
async fn died(life: Option<&Life>) {
    match life {
        // An error means that the descriptor can't be watched, which for a pidfd means that it is over too.
        Some(Life { died: Some(died), .. }) => drop(died.readable().await),
        _ => std::future::pending().await,
    }
}

/// The next connection; never without a listener.
async fn accept(listener: Option<&UnixListener>) -> std::io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

/// Resolves at `when`; never without one.
async fn at(when: Option<Instant>) {
    match when {
        Some(when) => tokio::time::sleep_until(when).await,
        None => std::future::pending().await,
    }
}
