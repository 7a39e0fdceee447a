//! The rotation of the host's root, carried from phase to phase.
//!
//! Knows what each connected agent has acknowledged ([`Holders`], kept by the sessions themselves) and asks
//! `engine::rotation` whether it is time. The phase is on disk before anything follows from it; a crash resumes there.
//! Telling the agents is the sessions' own business: each watches the roots in force.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clawker_engine::rotation::{Holder, Roots, Step, next};
use clawker_model::FullName;
use clawker_model::event::AuthorityRotated;
use clawker_model::identity::RotationPhase;
use tokio::sync::Notify;

use crate::core::{Core, now_ms};
use crate::fault::fault_point;

/// How often a root's end is looked at.
const LOOK: Duration = Duration::from_secs(3600);
/// How long a rotation that an earlier life began waits for agents to come back; they do within a second.
const SETTLE: Duration = Duration::from_secs(10);
/// After a step that failed, e.g. on a full disk.
const AGAIN: Duration = Duration::from_secs(10);

/// What every connected, trusted agent has acknowledged.
#[derive(Debug, Default)]
pub struct Holders {
    known: Mutex<BTreeMap<FullName, (u64, Holder)>>,
    asked: Mutex<Option<String>>,
    changed: Notify,
}

/// One session's entry, gone with it.
#[derive(Debug)]
pub struct Held {
    holders: Arc<Holders>,
    name: FullName,
    session: u64,
}

impl Holders {
    /// Enters a session that began to hold this.
    pub fn enter(self: &Arc<Self>, name: &FullName, holder: Holder) -> Held {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let session = known.get(name).map_or(0, |(session, _)| session + 1);
        known.insert(name.clone(), (session, holder));
        drop(known);
        self.changed.notify_one();
        Held {
            holders: self.clone(),
            name: name.clone(),
            session,
        }
    }

    /// Asks for a rotation, on behalf of `by`. One that is under way already is that one.
    pub fn ask(&self, by: &str) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(by.to_owned());
        self.changed.notify_one();
    }

    fn asked(&self) -> Option<String> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn begun(&self) {
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Connected, trusted agents: all, and those that have acknowledged all there is to know.
    pub fn count(&self, roots: &Roots) -> (usize, usize) {
        let holders = self.snapshot();
        let current = holders.iter().filter(|holder| roots.is_current(holder)).count();
        (holders.len(), current)
    }

    fn snapshot(&self) -> Vec<Holder> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.values().map(|(_, holder)| holder.clone()).collect()
    }
}

impl Held {
    /// The agent has acknowledged this.
    pub fn acknowledged(&self, holder: Holder) {
        let mut known = self.holders.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = known.get_mut(&self.name).filter(|entry| entry.0 == self.session) {
            entry.1 = holder;
        }
        drop(known);
        self.holders.changed.notify_one();
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut known = self.holders.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known
            .get(&self.name)
            .is_some_and(|(session, _)| *session == self.session)
        {
            known.remove(&self.name);
        }
        drop(known);
        self.holders.changed.notify_one();
    }
}

/// Runs until shutdown.
pub async fn run(core: Arc<Core>) {
    if core.signer.in_force().roots.phase != RotationPhase::Standby {
        // Nobody is connected yet, which isn't the same as everybody knowing it.
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = tokio::time::sleep(SETTLE) => {}
        }
    }
    loop {
        let pause = advance(&core).await;
        tokio::select! {
            () = core.shutdown.cancelled() => return,
            () = core.holders.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Goes as far as it can; how long to wait after that.
async fn advance(core: &Core) -> Duration {
    loop {
        let asked = core.holders.asked();
        let roots = core.signer.in_force().roots.clone();
        let now_s = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
        let Some(step) = next(&roots, asked.is_some(), now_s, &core.holders.snapshot()) else {
            return LOOK;
        };
        if let Err(error) = core.signer.step(step).await {
            core.board.degraded("authority", error.to_string()).await;
            return AGAIN;
        }
        match step {
            Step::Introduce => {
                fault_point!("authority-introduced");
            }
            Step::Switch => {
                fault_point!("authority-switched");
            }
            Step::Retire => {
                fault_point!("authority-retired");
            }
        }
        core.board.recovered("authority").await;
        core.holders.begun();
        let roots = core.signer.in_force().roots.clone();
        tracing::info!(phase = %roots.phase, signer = roots.signer, "the host's root");
        let rotated = AuthorityRotated {
            phase: roots.phase,
            roots: roots.ids().cloned().collect(),
            by: asked.unwrap_or_else(|| "host".to_owned()),
        };
        if let Err(error) = core.store.append(None, rotated).await {
            core.board.degraded("journal", error.to_string()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holder(root: &str) -> Holder {
        Holder {
            roots: [root.to_owned()].into(),
            leaf_root: root.into(),
        }
    }

    #[test]
    fn a_session_that_was_replaced_takes_nothing_of_its_successor_along() {
        let holders = Arc::new(Holders::default());
        let name = FullName::parse("clawker.a").expect("name");
        let first = holders.enter(&name, holder("a"));
        let second = holders.enter(&name, holder("b"));
        first.acknowledged(holder("x"));
        assert_eq!(holders.snapshot(), [holder("b")]);
        drop(first);
        assert_eq!(holders.snapshot(), [holder("b")]);
        second.acknowledged(holder("c"));
        assert_eq!(holders.snapshot(), [holder("c")]);
        drop(second);
        assert!(holders.snapshot().is_empty());
    }
}
