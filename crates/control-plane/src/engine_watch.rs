//! Watching the engine: asks it, and carries out what `engine::reconcile` makes of its answers.
//!
//! ```text
//! event stream ──▶ hint ──▶ look at that container ─┐
//!     │ gap, error                                  ├─▶ reconcile ─▶ rows, tasks nudged, agents adopted or evicted
//!     ▼                                             │
//! reconnect ──▶ list, at reconcile's cadence ───────┘
//! ```
//! Questions run beside this loop, each with the deadline of its call: an engine that hangs delays other hints by
//! nothing, and containment and sessions, which never ask it, not at all.

mod carry_out;
mod newcomer;
mod questions;
mod rebuild;

use std::collections::BTreeSet;
use std::sync::Arc;

use clawker_docker::{ContainerEvent, EventKind};
use clawker_engine::reconcile::{Answer, Cadence, History, Input, Known, step};
use clawker_model::event::{ContainerNetworkConnected, ContainerOom, ExecStarted};
use clawker_model::{ContainerId, Event, FullName};
use clawker_proc::procfs;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};

use crate::agent::{AgentHandle, end_processes};
use crate::core::Core;
use newcomer::Adoption;
use questions::Looks;
use rebuild::{Reasons, Rebuild};

/// From the end of the event stream to the next.
const RECONNECT: Duration = Duration::from_secs(1);

type Events = BoxStream<'static, Result<ContainerEvent, clawker_docker::Error>>;

/// Runs until shutdown.
pub async fn run(core: Arc<Core>) {
    let mut watch = Watch {
        history: History::new(&core.engine.identity()),
        cadence: Cadence::new(0),
        began: Instant::now(),
        listing: false,
        looks: Looks::default(),
        work: JoinSet::new(),
        adopting: BTreeSet::new(),
        rebuild: rebuild::begin(&core).await,
        not_taken: Reasons::new(),
        core: core.clone(),
    };
    let mut events: Option<Events> = None;
    let mut reconnect = Instant::now();
    loop {
        let next_list = watch.began + Duration::from_millis(watch.cadence.next());
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = tokio::time::sleep_until(reconnect), if events.is_none() => {
                events = Some(core.docker.events(&core.labels().managed(), None).boxed());
                // What happened before the stream began, only a list tells.
                watch.cadence.gap(watch.now());
            }
            event = next(&mut events) => match event {
                Some(Ok(event)) => watch.event(event).await,
                ended => {
                    if let Some(Err(error)) = ended {
                        core.board.degraded("engine", error.to_string()).await;
                    }
                    events = None;
                    reconnect = Instant::now() + RECONNECT;
                    watch.cadence.gap(watch.now());
                }
            },
            Some(done) = watch.work.join_next() => match done {
                Ok(done) => watch.done(done).await,
                Err(error) => watch.broke_off(&error.to_string()).await,
            },
            () = tokio::time::sleep_until(next_list), if !watch.listing => watch.list(),
        }
    }
}

/// The next event; never without a stream.
async fn next(events: &mut Option<Events>) -> Option<Result<ContainerEvent, clawker_docker::Error>> {
    match events {
        Some(events) => events.next().await,
        None => std::future::pending().await,
    }
}

struct Watch {
    core: Arc<Core>,
    history: History,
    cadence: Cadence,
    /// The cadence's zero.
    began: Instant,
    listing: bool,
    looks: Looks,
    work: JoinSet<Done>,
    /// Being adopted now: two at it would journal it twice.
    adopting: BTreeSet<ContainerId>,
    /// While agents are taken over that the journal doesn't know.
    rebuild: Option<Rebuild>,
    /// Why containers weren't, until they are looked after as strangers.
    not_taken: Reasons,
}

/// What a question came to.
enum Done {
    Listed {
        /// As of before the question.
        known: Known,
        answer: Answer,
    },
    Looked {
        container: ContainerId,
        /// An error says nothing of the container.
        known: Result<(Known, clawker_engine::reconcile::Look), String>,
    },
    Adopted(ContainerId, Adoption),
    Nothing,
}

impl Watch {
    fn now(&self) -> u64 {
        self.began.elapsed().as_millis().try_into().unwrap_or(u64::MAX)
    }

    async fn event(&mut self, event: ContainerEvent) {
        self.cadence.event(self.now());
        let container = event.id;
        let Some(agent) = self.core.agents.by_container(&container) else {
            // Somebody's, perhaps one that joins an agent's network; or ours, and not known yet.
            if event.kind == EventKind::Start {
                self.hint(container, false);
            }
            return;
        };
        match event.kind {
            EventKind::Oom => {
                self.append(&agent.name, ContainerOom { container }).await;
            }
            EventKind::NetworkConnect { network } => {
                self.append(&agent.name, ContainerNetworkConnected { container, network })
                    .await;
                self.core.containment.reverify(&agent.name).await;
            }
            // Ours run on the session: this one is somebody's with the engine's socket.
            EventKind::ExecCreate { command } => {
                let exec = ExecStarted {
                    exec: "docker".into(),
                    argv: vec![command],
                    by: "docker".into(),
                    init_life: String::new(),
                };
                self.append(&agent.name, exec).await;
            }
            EventKind::Start | EventKind::Die { .. } | EventKind::Pause | EventKind::Unpause => {
                self.hint(container, false);
            }
            EventKind::Destroy => self.hint(container, true),
            _ => {}
        }
        agent.hint();
    }

    fn hint(&mut self, container: ContainerId, destroy: bool) {
        // A hint leads to a look, whatever is known.
        let known = match self.core.agents.by_container(&container) {
            Some(agent) => Known::from([(container.clone(), questions::held(&agent, None))]),
            None => Known::new(),
        };
        for action in step(&mut self.history, &known, Input::Hint { container, destroy }) {
            if let clawker_engine::reconcile::Action::Look(container) = action {
                self.look(container);
            }
        }
    }

    async fn done(&mut self, done: Done) {
        match done {
            Done::Listed { known, answer } => {
                self.listing = false;
                let failed = matches!(answer, Answer::Failed { .. });
                let actions = step(&mut self.history, &known, Input::Listed(answer));
                self.cadence.listed(self.now(), self.history.is_unsure(), failed);
                self.carry_out(&known, actions).await;
                if !failed {
                    self.let_all_go();
                    self.rebuild.iter_mut().for_each(Rebuild::listed);
                    self.go_on_rebuilding().await;
                }
            }
            Done::Looked { container, known } => {
                self.looked(&container);
                match known {
                    Ok((known, look)) => {
                        let actions = step(&mut self.history, &known, Input::Looked { container, look });
                        self.carry_out(&known, actions).await;
                    }
                    // The next list leads to another look.
                    Err(error) => self.core.board.degraded("engine", error).await,
                }
            }
            Done::Adopted(container, adoption) => self.adopted(container, adoption).await,
            Done::Nothing => {}
        }
    }

    async fn adopted(&mut self, container: ContainerId, adoption: Adoption) {
        self.adopting.remove(&container);
        match adoption {
            Adoption::Done => {}
            Adoption::Refused => {
                self.not_taken.remove(&container);
                self.history.refuse(&container);
            }
            Adoption::NotTaken(why) => {
                self.rebuild
                    .iter_mut()
                    .for_each(|rebuild| rebuild.refuse(container.clone()));
                self.not_taken.insert(container, why);
            }
            Adoption::Later => self.rebuild.iter_mut().for_each(Rebuild::try_again),
            Adoption::Failed(error) => {
                self.rebuild.iter_mut().for_each(Rebuild::try_again);
                self.core
                    .board
                    .degraded("agents", format!("{container}: {error}"))
                    .await;
            }
        }
        self.go_on_rebuilding().await;
    }

    /// A question was dropped without an answer, by a panic or at the end.
    async fn broke_off(&mut self, error: &str) {
        self.listing = false;
        self.looks = Looks::default();
        self.adopting.clear();
        self.core
            .board
            .degraded("engine", format!("a question broke off: {error}"))
            .await;
    }

    async fn append(&self, agent: &FullName, event: impl Into<Event>) -> u64 {
        match self.core.store.append(Some(agent), event.into()).await {
            Ok(row) => row.seq,
            Err(error) => {
                self.core.board.degraded("journal", error.to_string()).await;
                0
            }
        }
    }

    /// An init that was killed while its agent is frozen waits in the kernel for processes that can't die (cgroup v1).
    fn let_all_go(&mut self) {
        if self.core.config.engine.is_elsewhere() {
            // Their inits aren't processes of this host.
            return;
        }
        let waits = |agent: &AgentHandle| {
            let init = agent.status().init_pid;
            init > 0 && procfs::exiting(init).unwrap_or(false)
        };
        for agent in self.core.agents.list().into_iter().filter(waits) {
            let core = self.core.clone();
            self.work.spawn(async move {
                end_processes(&core, &agent.name, &agent.status().container).await;
                Done::Nothing
            });
        }
    }
}
