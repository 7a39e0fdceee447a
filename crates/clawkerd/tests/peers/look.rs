//! What the kernel shows of the processes of a container, from outside.

use std::collections::BTreeMap;
use std::time::Instant;

use clawker_proc::procfs;

use crate::bed::Bed;
use crate::host::PATIENCE;

/// A process at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    pub pid: i32,
    pub state: char,
    /// Signals that were sent and not taken, bit 0 being signal 1.
    pub pending: u64,
}

impl Seen {
    /// `None` when it is gone, or ended and not yet reaped.
    pub fn at(pid: i32) -> Option<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let mask = |name: &str| field(name).and_then(|hex| u64::from_str_radix(hex, 16).ok());
        let state = field("State:")?.chars().next()?;
        (!matches!(state, 'Z' | 'X')).then_some(())?;
        Some(Self {
            pid,
            state,
            pending: mask("SigPnd:")? | mask("ShdPnd:")?,
        })
    }

    /// Nothing is left for it to do: it has taken all that was sent, and sleeps or is stopped.
    fn is_settled(self) -> bool {
        self.pending == 0 && matches!(self.state, 'S' | 'T')
    }
}

/// As `eventually` of the host, but looks more often: a matrix has many cells.
pub fn soon<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::yield_now();
    }
}

impl Bed {
    /// The processes of the container that have one of these names, once they all have.
    pub fn places(&self, names: &[&'static str]) -> BTreeMap<&'static str, i32> {
        soon("the command and its children are ready", || {
            let found: BTreeMap<&str, i32> = self
                .below()
                .into_iter()
                .filter_map(|stat| Some((*names.iter().find(|name| **name == stat.comm)?, stat.pid)))
                .collect();
            (found.len() == names.len()).then_some(found)
        })
    }

    pub fn place(&self, name: &'static str) -> i32 {
        self.places(&[name])[name]
    }

    /// All processes below init.
    pub fn below(&self) -> Vec<procfs::Stat> {
        let all = procfs::all().unwrap_or_default();
        let below = procfs::descendants(&all, self.init);
        all.into_iter()
            .filter(|stat| below.contains(&stat.pid) && stat.pid != self.init)
            .collect()
    }

    /// Waits until init has dealt with every signal that it was sent. It handles one after the other, so none is on
    /// its way then. `false` if it has ended.
    pub fn settles(&self) -> bool {
        soon("init has taken its signals", || match Seen::at(self.init) {
            None => Some(false),
            Some(seen) => seen.is_settled().then_some(true),
        })
    }

    /// What became of the process: stopped, running on, or (`None`) ended.
    pub fn fate(&self, pid: i32) -> Option<char> {
        soon("a process has taken its signals", || match Seen::at(pid) {
            None => Some(None),
            Some(seen) => seen.is_settled().then_some(Some(seen.state)),
        })
    }
}
