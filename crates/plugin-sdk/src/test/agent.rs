//! What the host keeps of one agent.

use crate::policy::{Containment, Event, Facts, Network, Processes, Window, WindowCount};

/// Events kept of an agent and kind, as the host's; a count saturates there.
const KEPT: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Agent {
    pub(super) state: String,
    pub(super) containment: Containment,
    /// Kinds and times of what a window counts.
    seen: Vec<(String, u64)>,
}

impl Agent {
    pub(super) fn note(&mut self, event: &Event, windows: &[Window]) {
        if windows.iter().any(|window| window.kind == event.kind) {
            self.seen.push((event.kind.clone(), event.at));
        }
    }

    pub(super) fn facts(&self, now: u64, windows: &[Window]) -> Facts {
        let count = |window: &Window| {
            let since = u64::from(window.seconds) * 1000;
            let inside = self
                .seen
                .iter()
                .filter(|(kind, at)| kind == window.kind && at + since > now);
            WindowCount {
                kind: window.kind.into(),
                seconds: window.seconds,
                count: inside.take(KEPT).count() as u64,
            }
        };
        Facts {
            counts: windows.iter().map(count).collect(),
            containment: self.containment.clone(),
        }
    }

    /// The strongest on each axis wins.
    pub(super) fn contain(&mut self, action: &str) {
        let Containment { network, processes } = &mut self.containment;
        match action {
            "restrict-egress" if *network == Network::Open => *network = Network::Restricted,
            "lock-network" => *network = Network::Locked,
            "freeze" if *processes == Processes::Running => *processes = Processes::Frozen,
            "stop" if *processes != Processes::Killed => *processes = Processes::Stopped,
            "kill" => *processes = Processes::Killed,
            _ => {}
        }
    }
}
