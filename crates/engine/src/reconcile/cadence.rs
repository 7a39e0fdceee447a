//! When the engine is asked for its list.

/// After a gap, a reconnect or an event: each second, for ten of them.
pub const QUICK_MS: u64 = 1_000;
pub const QUICK_FOR_MS: u64 = 10_000;
/// When nothing happens.
pub const SLOW_MS: u64 = 15_000;
/// When somebody was missing once.
pub const CONFIRM_MS: u64 = 500;

/// Times are milliseconds of any clock that doesn't go back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cadence {
    quick_until: u64,
    next: u64,
}

impl Cadence {
    /// The first list is due at once.
    pub fn new(now: u64) -> Self {
        Self {
            quick_until: now + QUICK_FOR_MS,
            next: now,
        }
    }

    /// When the next list is due.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// An event came: what follows it may be lost.
    pub fn event(&mut self, now: u64) {
        self.quick_until = now + QUICK_FOR_MS;
        self.next = self.next.min(now + QUICK_MS);
    }

    /// Events were lost, or may have been.
    pub fn gap(&mut self, now: u64) {
        self.quick_until = now + QUICK_FOR_MS;
        self.next = self.next.min(now);
    }

    /// An answer is here, of whatever kind. `unsure` says that it lacked somebody, `failed` that it was none.
    pub fn listed(&mut self, now: u64, unsure: bool, failed: bool) {
        self.next = now
            + match () {
                () if unsure => CONFIRM_MS,
                () if failed || now < self.quick_until => QUICK_MS,
                () => SLOW_MS,
            };
    }
}
