//! What the control plane holds of containers against what the engine has: who is new, who is gone, what was missed.
//!
//! Events are hints, because the engine drops them without a word; a hint leads to a look at the container it names.
//! The list is the truth, and only where it can be: an answer that failed, or that another engine gave, says nothing
//! about absence. Does no I/O: the answers come in, what to do about them goes out.
//!
//! ```text
//! hint ──▶ Look ──▶ looked ─┬ gone, and a destroy was hinted ─▶ Evict (seen: event)
//!                           └ runs, is paused, ended ─▶ Started | Died | Paused | Unpaused, once each
//! list ─┬ failed, or another engine's ─▶ Degrade; nobody is absent
//!       └ complete ─▶ Recover
//!             ├ known and missing ─▶ the second time in a row: Evict (seen: relist)
//!             ├ runs otherwise than was said ─▶ Look
//!             ├ ours and unknown ─▶ Adopt
//!             └ in an agent's network namespace and not the agent ─▶ Shared
//! ```

mod cadence;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use clawker_model::event::Seen;
use clawker_model::{ContainerId, FullName};

pub use cadence::{CONFIRM_MS, Cadence, QUICK_FOR_MS, QUICK_MS, SLOW_MS};

/// Containers that the control plane holds to exist, as of *before* the question that is answered: one that was made
/// while the engine listed isn't missing.
pub type Known = BTreeMap<ContainerId, Held>;

/// A container that somebody looks after, or that a row of the registry names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub name: FullName,
    /// Number of the latest start that was attested; 0 before the first.
    pub start: u64,
    /// The init of that start.
    pub init: Option<InitId>,
    /// What its own task takes it for; `None` without a task.
    pub running: Option<bool>,
}

/// One life of a container's init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InitId {
    pub boot_id: String,
    pub start_time: u64,
}

/// What the engine's list says of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Made, ended, or on its way from one to the other.
    Down,
    Up,
    Paused,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub run: Run,
    /// It bears our labels.
    pub ours: bool,
    /// The container whose network namespace it uses.
    pub netns_of: Option<ContainerId>,
}

/// The engine's answer to: which containers are there?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// All of them, stopped ones included.
    Complete {
        /// Who answered, where it was asked: only when somebody is missing does it matter.
        engine: Option<String>,
        containers: BTreeMap<ContainerId, Listed>,
    },
    Failed {
        why: String,
    },
}

/// The engine's answer to: how is this container?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    Gone,
    Down {
        exit_code: i64,
        ever_ran: bool,
    },
    Up {
        init: Option<InitId>,
        paused: bool,
        /// The container whose network namespace it uses.
        netns_of: Option<ContainerId>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Input {
    /// An event named the container; `destroy` if it was said to be gone.
    Hint {
        container: ContainerId,
        destroy: bool,
    },
    Looked {
        container: ContainerId,
        look: Look,
    },
    Listed(Answer),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Ask the engine about one container.
    Look(ContainerId),
    /// Its task is wrong about it, or may be.
    Nudge(FullName),
    /// Bears our labels, and nobody looks after it.
    Adopt(ContainerId),
    Started {
        container: ContainerId,
        /// Starts that were numbered before it.
        after: u64,
    },
    /// A life that was never attested ended: nobody else says so.
    Died {
        container: ContainerId,
        exit_code: i64,
    },
    Paused(ContainerId),
    Unpaused(ContainerId),
    /// It is gone: agent, registry row and whatever was kept of it go too.
    Evict {
        container: ContainerId,
        seen: Seen,
    },
    /// A container that isn't the agent is in the agent's network namespace.
    Shared {
        agent: ContainerId,
        foreign: ContainerId,
    },
    /// Absence can't be told; `first` of an outage.
    Degrade {
        why: String,
        first: bool,
    },
    Recover,
}

/// What was said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    /// Whose containers these are.
    engine: String,
    /// Missing from the last complete list.
    absent: BTreeSet<ContainerId>,
    /// Of which a destroy was hinted.
    destroyed: BTreeSet<ContainerId>,
    degraded: bool,
    said: BTreeMap<ContainerId, Said>,
    /// (agent, foreign) while it lasts.
    shared: BTreeSet<(ContainerId, ContainerId)>,
    /// Not looked after, for good.
    refused: BTreeSet<ContainerId>,
}

/// What was published of a container's lives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    /// The latest life that was said to have started.
    init: Option<InitId>,
    /// How many starts were numbered then.
    starts: u64,
    up: bool,
    paused: bool,
}

impl History {
    /// `engine` is the one whose containers are known.
    pub fn new(engine: &str) -> Self {
        Self {
            engine: engine.to_owned(),
            ..Self::default()
        }
    }

    /// Whether an answer has to say who gave it: it lacks somebody.
    pub fn must_identify(known: &Known, containers: &BTreeMap<ContainerId, Listed>) -> bool {
        known.keys().any(|id| !containers.contains_key(id))
    }

    /// Whether somebody is missing once: the list that confirms it shouldn't wait.
    pub fn is_unsure(&self) -> bool {
        !self.absent.is_empty()
    }

    /// This container is nobody's: it isn't offered for adoption again.
    pub fn refuse(&mut self, container: &ContainerId) {
        self.refused.insert(container.clone());
    }
}

/// Takes an input, says what to do about it.
pub fn step(history: &mut History, known: &Known, input: Input) -> Vec<Action> {
    match input {
        Input::Hint { container, destroy } => {
            if destroy && known.contains_key(&container) {
                history.destroyed.insert(container.clone());
            }
            vec![Action::Look(container)]
        }
        Input::Looked { container, look } => looked(history, known, container, look),
        Input::Listed(Answer::Failed { why }) => degrade(history, why),
        Input::Listed(Answer::Complete { engine, containers }) => match engine {
            Some(other) if other != history.engine => {
                let why = format!(
                    "another engine answers: {other}, and not {}, which has the agents",
                    history.engine
                );
                degrade(history, why)
            }
            // Nobody asked who it was: then nobody is missing, or nobody may be.
            engine => listed(history, known, &containers, engine.is_some()),
        },
    }
}

fn degrade(history: &mut History, why: String) -> Vec<Action> {
    // In a row is without a gap.
    history.absent.clear();
    let first = !std::mem::replace(&mut history.degraded, true);
    vec![Action::Degrade { why, first }]
}

fn listed(
    history: &mut History,
    known: &Known,
    containers: &BTreeMap<ContainerId, Listed>,
    identified: bool,
) -> Vec<Action> {
    let mut actions = vec![Action::Recover];
    history.degraded = false;
    for (id, held) in known {
        match containers.get(id) {
            Some(listed) => compare(history, id, held, listed, &mut actions),
            None if identified && history.absent.contains(id) => actions.push(evict(history, id, Seen::Relist)),
            None => {}
        }
    }
    let missing = known.keys().filter(|id| identified && !containers.contains_key(*id));
    history.absent = missing.filter(|id| !evicted(&actions, id)).cloned().collect();
    for (id, listed) in containers {
        if listed.ours && !known.contains_key(id) && !history.refused.contains(id) {
            actions.push(Action::Adopt(id.clone()));
        }
    }
    share(history, known, containers, &mut actions);
    // What is gone needs no memory.
    history.refused.retain(|id| containers.contains_key(id));
    history.said.retain(|id, _| known.contains_key(id));
    history.destroyed.retain(|id| known.contains_key(id));
    actions
}

fn evicted(actions: &[Action], id: &ContainerId) -> bool {
    actions
        .iter()
        .any(|action| matches!(action, Action::Evict { container, .. } if container == id))
}

fn evict(history: &mut History, id: &ContainerId, seen: Seen) -> Action {
    history.said.remove(id);
    history.destroyed.remove(id);
    history.absent.remove(id);
    Action::Evict {
        container: id.clone(),
        seen,
    }
}

/// One container that is known and there.
fn compare(history: &mut History, id: &ContainerId, held: &Held, listed: &Listed, actions: &mut Vec<Action>) {
    let up = listed.run != Run::Down;
    if held.running.is_some_and(|running| running != up) {
        actions.push(Action::Nudge(held.name.clone()));
    }
    let Some(said) = history.said.get_mut(id) else {
        // First seen in this life. Whether its start was said before, its init tells; a stopped one has nothing to say.
        if up {
            actions.push(Action::Look(id.clone()));
        } else {
            history.said.insert(id.clone(), Said::default());
        }
        return;
    };
    if said.up && up && held.start > said.starts {
        said.starts = held.start;
        if held.init != said.init {
            // It was started again between two looks, and its agent proved who it is meanwhile.
            said.init.clone_from(&held.init);
            actions.push(Action::Started {
                container: id.clone(),
                after: held.start.saturating_sub(1),
            });
        }
    } else if said.up != up {
        actions.push(Action::Look(id.clone()));
    }
    pause(said, id, up && listed.run == Run::Paused, actions);
}

fn pause(said: &mut Said, id: &ContainerId, paused: bool, actions: &mut Vec<Action>) {
    if said.up && said.paused != paused {
        said.paused = paused;
        actions.push(match paused {
            true => Action::Paused(id.clone()),
            false => Action::Unpaused(id.clone()),
        });
    }
}

fn looked(history: &mut History, known: &Known, id: ContainerId, look: Look) -> Vec<Action> {
    let mut actions = Vec::new();
    if let Look::Up {
        netns_of: Some(agent), ..
    } = &look
        && joins(known, agent, &id)
        && history.shared.insert((agent.clone(), id.clone()))
    {
        let (agent, foreign) = (agent.clone(), id.clone());
        actions.push(Action::Shared { agent, foreign });
    }
    let Some(held) = known.get(&id) else { return actions };
    match look {
        // Without a hint of its end it is for two lists to say.
        Look::Gone if history.destroyed.contains(&id) => actions.push(evict(history, &id, Seen::Event)),
        Look::Gone => {}
        Look::Down { exit_code, ever_ran } => {
            let said = history.said.entry(id.clone()).or_default();
            let attested = held.init.is_some() && held.init == said.init;
            if said.up && !attested && ever_ran {
                actions.push(Action::Died {
                    container: id.clone(),
                    exit_code,
                });
            }
            (said.up, said.paused) = (false, false);
        }
        Look::Up { init, paused, .. } => {
            let first = !history.said.contains_key(&id);
            let said = history.said.entry(id.clone()).or_default();
            // An earlier life of the control plane said of this start what there is to say.
            let told = first && init.is_some() && init == held.init;
            if !told && (!said.up || init != said.init) {
                let numbered = init.is_some() && init == held.init;
                actions.push(Action::Started {
                    container: id.clone(),
                    after: held.start.saturating_sub(u64::from(numbered)),
                });
            }
            (said.init, said.up, said.starts) = (init, true, held.start);
            pause(said, &id, paused, &mut actions);
        }
    }
    actions
}

/// Who is in an agent's network namespace without being the agent.
fn share(history: &mut History, known: &Known, containers: &BTreeMap<ContainerId, Listed>, actions: &mut Vec<Action>) {
    let mut now = BTreeSet::new();
    for (foreign, listed) in containers {
        if let Some(agent) = &listed.netns_of
            && listed.run != Run::Down
            && joins(known, agent, foreign)
        {
            let pair = (agent.clone(), foreign.clone());
            if !history.shared.contains(&pair) {
                let (agent, foreign) = pair.clone();
                actions.push(Action::Shared { agent, foreign });
            }
            now.insert(pair);
        }
    }
    history.shared = now;
}

/// Whether it is an agent's network namespace that somebody else uses.
fn joins(known: &Known, agent: &ContainerId, foreign: &ContainerId) -> bool {
    agent != foreign && known.contains_key(agent)
}
