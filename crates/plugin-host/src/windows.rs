//! How many events of a kind an agent had lately: the facts that policies asked for.

use std::collections::{HashMap, VecDeque};

use clawker_model::{FullName, Row};

use crate::{Window, WindowCount};

/// Events kept per agent and kind; a count saturates there.
const KEPT: usize = 10_000;

/// Counts of one host.
#[derive(Default)]
pub struct Windows {
    /// The longest window that anybody declared, in milliseconds, by kind.
    wanted: HashMap<String, u64>,
    seen: HashMap<FullName, HashMap<String, VecDeque<(u64, u64)>>>,
}

impl Windows {
    /// Counts what these windows, of all policies together, need.
    pub fn new<'a>(windows: impl Iterator<Item = &'a Window>) -> Self {
        let mut wanted = HashMap::new();
        for window in windows {
            let longest = wanted.entry(window.kind.clone()).or_insert(0);
            *longest = u64::max(*longest, millis(window.seconds));
        }
        Self {
            wanted,
            seen: HashMap::new(),
        }
    }

    /// Whether these windows are counted already.
    pub fn counts<'a>(&self, mut windows: impl Iterator<Item = &'a Window>) -> bool {
        windows.all(|window| {
            let longest = self.wanted.get(&window.kind);
            longest.is_some_and(|longest| *longest >= millis(window.seconds))
        })
    }

    /// How far back the journal has to be read, in milliseconds.
    pub fn longest(&self) -> u64 {
        self.wanted.values().copied().max().unwrap_or(0)
    }

    /// Counts a row. Rows come in the order of the journal.
    pub fn note(&mut self, row: &Row) {
        let (Some(agent), Some(longest)) = (&row.agent, self.wanted.get(row.event.kind())) else {
            return;
        };
        let kinds = self.seen.entry(agent.clone()).or_default();
        let times = kinds.entry(row.event.kind().to_owned()).or_default();
        times.push_back((row.seq, row.at_ms));
        while times.len() > KEPT || times.front().is_some_and(|(_, at)| at + longest < row.at_ms) {
            times.pop_front();
        }
    }

    /// Counts as they were when `row` was written, itself included.
    pub fn at(&self, row: &Row, windows: &[Window]) -> Vec<WindowCount> {
        let kinds = row.agent.as_ref().and_then(|agent| self.seen.get(agent));
        let count = |window: &Window| {
            let times = kinds.and_then(|kinds| kinds.get(&window.kind));
            let inside = |(seq, at): &&(u64, u64)| *seq <= row.seq && at + millis(window.seconds) > row.at_ms;
            let count = times.map_or(0, |times| times.iter().filter(inside).count());
            WindowCount {
                kind: window.kind.clone(),
                seconds: window.seconds,
                count: count as u64,
            }
        };
        windows.iter().map(count).collect()
    }

    /// The agent is gone.
    pub fn forget(&mut self, agent: &FullName) {
        self.seen.remove(agent);
    }
}

fn millis(seconds: u32) -> u64 {
    u64::from(seconds) * 1000
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawker_model::event::EgressDenied;

    fn row(seq: u64, at_ms: u64, agent: &str) -> Row {
        let agent = Some(FullName::parse(agent).expect("name"));
        Row {
            seq,
            at_ms,
            cp_life: "x".into(),
            agent,
            event: EgressDenied { count: 1, total: seq }.into(),
        }
    }

    fn count(windows: &Windows, row: &Row, seconds: u32) -> u64 {
        windows.at(
            row,
            &[Window {
                kind: "EgressDenied".into(),
                seconds,
            }],
        )[0]
        .count
    }

    #[test]
    fn a_window_holds_the_agents_events_up_to_the_one_judged() {
        let wanted = [Window {
            kind: "EgressDenied".into(),
            seconds: 10,
        }];
        let mut windows = Windows::new(wanted.iter());
        let rows = [
            row(1, 1_000, "clawker.a"),
            row(2, 8_000, "clawker.a"),
            row(3, 9_000, "clawker.b"),
            row(4, 11_000, "clawker.a"),
        ];
        rows.iter().for_each(|row| windows.note(row));
        assert_eq!(count(&windows, &rows[3], 10), 2, "the first is 10 s old");
        assert_eq!(count(&windows, &rows[3], 1), 1);
        assert_eq!(count(&windows, &rows[1], 10), 2, "later ones don't count");
        assert_eq!(count(&windows, &rows[2], 10), 1);
        windows.forget(&FullName::parse("clawker.a").expect("name"));
        assert_eq!(count(&windows, &rows[3], 10), 0);
    }

    #[test]
    fn no_more_is_kept_than_the_cap() {
        let wanted = [Window {
            kind: "EgressDenied".into(),
            seconds: 86_400,
        }];
        let mut windows = Windows::new(wanted.iter());
        let last = KEPT as u64 + 10;
        (1..=last).for_each(|seq| windows.note(&row(seq, seq, "clawker.a")));
        assert_eq!(count(&windows, &row(last, last, "clawker.a"), 86_400), KEPT as u64);
    }
}
