//! Faults that a test asks for, at named points. Outside tests none ever strikes.

/// Where a fault may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Point {
    /// The journal has committed, the projection hasn't.
    BetweenCommits,
    /// Applying rows that the projection lacks.
    CatchUp,
    /// fdatasync of the journal.
    Sync,
    /// Writing a signed head.
    Head,
    /// A checkpoint is written, and not committed.
    Condense,
    /// The checkpoint is there, and its rows aren't dropped.
    Drop,
    /// state.db is made anew and has its tables, and nothing in them.
    Restore,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    #[cfg(test)]
    armed: std::sync::Arc<std::sync::Mutex<std::collections::BTreeSet<Point>>>,
}

impl Faults {
    #[cfg(test)]
    pub fn set(&self, point: Point, on: bool) {
        let mut armed = self.armed.lock().expect("faults");
        if on {
            armed.insert(point);
        } else {
            armed.remove(&point);
        }
    }

    #[cfg(test)]
    pub fn strikes(&self, point: Point) -> bool {
        self.armed.lock().expect("faults").contains(&point)
    }

    #[cfg(not(test))]
    pub fn strikes(&self, _: Point) -> bool {
        false
    }
}
