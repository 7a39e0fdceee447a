//! Who attends to which exec: one at a time, the newest. Whoever did before is told, ends, and only then may the
//! newcomer begin, so that an exec has one reader of its output and one row that says how it ended.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use clawker_model::FullName;
use tokio::sync::OwnedMutexGuard;
use tokio_util::sync::CancellationToken;

type Key = (FullName, String);

/// Every exec that somebody attends to, or waits to.
#[derive(Default)]
pub struct Desk {
    places: Mutex<HashMap<Key, Place>>,
}

#[derive(Default)]
struct Place {
    turn: Arc<tokio::sync::Mutex<()>>,
    /// The newest one's.
    over: CancellationToken,
    people: usize,
}

/// The right to attend to an exec, until [`Attendance::over`].
pub struct Attendance {
    desk: Arc<Desk>,
    key: Key,
    over: CancellationToken,
    turn: Option<OwnedMutexGuard<()>>,
}

impl Desk {
    /// Waits until whoever attends to it has ended.
    pub async fn attend(self: &Arc<Self>, agent: &FullName, exec: &str) -> Attendance {
        let (mut attendance, turn) = self.come((agent.clone(), exec.to_owned()));
        attendance.turn = Some(turn.lock_owned().await);
        attendance
    }

    /// Only if nobody does.
    pub fn attend_if_free(self: &Arc<Self>, agent: &FullName, exec: &str) -> Option<Attendance> {
        let key = (agent.clone(), exec.to_owned());
        let mut places = self.lock();
        if places.contains_key(&key) {
            return None;
        }
        let place = places.entry(key.clone()).or_default();
        place.people = 1;
        let turn = place.turn.clone().try_lock_owned().ok()?;
        Some(Attendance {
            desk: Arc::clone(self),
            key,
            over: place.over.clone(),
            turn: Some(turn),
        })
    }

    fn come(self: &Arc<Self>, key: Key) -> (Attendance, Arc<tokio::sync::Mutex<()>>) {
        let mut places = self.lock();
        let place = places.entry(key.clone()).or_default();
        place.people += 1;
        let over = CancellationToken::new();
        std::mem::replace(&mut place.over, over.clone()).cancel();
        let turn = place.turn.clone();
        let attendance = Attendance {
            desk: Arc::clone(self),
            key,
            over,
            turn: None,
        };
        (attendance, turn)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, Place>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attendance {
    /// Cancelled when somebody else comes.
    pub fn over(&self) -> CancellationToken {
        self.over.clone()
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        drop(self.turn.take());
        let mut places = self.desk.lock();
        if let Some(place) = places.get_mut(&self.key) {
            place.people -= 1;
            if place.people == 0 {
                places.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> FullName {
        FullName::parse("clawker.a").expect("name")
    }

    #[tokio::test]
    async fn the_newest_attends_once_the_one_before_has_ended() {
        let desk = Arc::new(Desk::default());
        let first = desk.attend(&agent(), "x").await;
        assert!(desk.attend_if_free(&agent(), "x").is_none());
        let name = agent();
        let mut waiting = std::pin::pin!(desk.attend(&name, "x"));
        assert!(
            futures::poll!(&mut waiting).is_pending(),
            "while the first has not ended"
        );
        assert!(first.over().is_cancelled());
        drop(first);
        let second = waiting.await;
        assert!(!second.over().is_cancelled());
        drop(second);
        assert!(desk.lock().is_empty());
        let again = desk.attend_if_free(&agent(), "x").expect("free");
        assert!(desk.attend_if_free(&agent(), "y").is_some(), "another exec");
        drop(again);
        assert!(desk.lock().is_empty());
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_leaves_nothing() {
        let desk = Arc::new(Desk::default());
        let first = desk.attend(&agent(), "x").await;
        let (name, patience) = (agent(), std::time::Duration::from_millis(1));
        let waiting = tokio::time::timeout(patience, desk.attend(&name, "x")).await;
        assert!(waiting.is_err());
        drop(first);
        assert!(desk.lock().is_empty());
    }
}
