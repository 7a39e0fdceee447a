//! One axis of an agent: what is in force, what is under way, what failed.

use super::RETRY_MS;

/// One axis of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line<T> {
    /// As read back last; `None` is unknown.
    pub(super) in_force: Option<T>,
    /// What is under way, and whether it must be looked at once more after it.
    pub(super) applying: Option<T>,
    pub(super) again: bool,
    /// When what was tried last failed.
    pub(super) failed: Option<(u64, T)>,
}

impl<T> Default for Line<T> {
    fn default() -> Self {
        Self {
            in_force: None,
            applying: None,
            again: false,
            failed: None,
        }
    }
}

impl<T: Clone + PartialEq> Line<T> {
    /// What to apply, and whether to look first because it may be in force.
    pub(super) fn start(&mut self, asked: T) -> Option<(T, bool)> {
        let in_force = self.in_force.as_ref() == Some(&asked);
        let just_failed = self.failed.as_ref().is_some_and(|(_, tried)| *tried == asked);
        if self.applying.is_some() || (!self.again && (in_force || just_failed)) {
            return None;
        }
        let verify = std::mem::take(&mut self.again);
        self.applying = Some(asked.clone());
        Some((asked, verify))
    }

    pub(super) fn done(&mut self, read: T) {
        (self.applying, self.failed, self.in_force) = (None, None, Some(read));
    }

    /// Whether that is what is asked still.
    pub(super) fn fail(&mut self, now: u64, tried: T, asked: &T) -> bool {
        let still_asked = tried == *asked;
        (self.applying, self.failed, self.in_force) = (None, Some((now, tried)), None);
        still_asked
    }

    pub(super) fn retry(&mut self, now: u64) {
        self.again |= self
            .failed
            .as_ref()
            .is_some_and(|(at, _)| now.saturating_sub(*at) >= RETRY_MS);
    }
}
