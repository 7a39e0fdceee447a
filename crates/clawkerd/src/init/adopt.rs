//! What ran by the defaults is brought into `agent`, where the control plane that came late can hold it.
//!
//! Without a control plane there is no `agent` and nobody in the container may make one, so such a command begins in
//! PID 1's own cgroup. A process can fork while it is moved; its child is found in the next round.

use clawker_proc::procfs::{self, CgroupLine};

use super::supervisor::Supervisor;
use super::terminal;

/// One round finds the children of those that were not yet moved in the one before.
const ROUNDS: u32 = 64;

impl Supervisor {
    /// To be done before the session begins: the control plane may freeze `agent` from Hello on.
    pub(super) fn adopt(&mut self) {
        let Some(procs) = self.gifts.procs() else { return };
        let half = self.half.as_ref().map(|half| half.pid);
        let ours = procfs::cgroups(1).unwrap_or_default();
        for _ in 0..ROUNDS {
            let outside: Vec<i32> = procfs::pids()
                .unwrap_or_default()
                .into_iter()
                .filter(|pid| *pid != 1 && Some(*pid) != half && is_outside(*pid, &ours))
                .collect();
            if outside.is_empty() {
                return;
            }
            for pid in outside {
                // One that has ended meanwhile needs no place.
                let _ = rustix::io::write(procs, pid.to_string().as_bytes());
            }
        }
        terminal::say("some processes could not be brought into the agent's cgroup");
    }
}

fn is_outside(pid: i32, ours: &[CgroupLine]) -> bool {
    let lives = procfs::stat(pid).is_ok_and(|stat| !matches!(stat.state, 'Z' | 'X'));
    lives && procfs::cgroups(pid).is_ok_and(|its| freezing(&its) == freezing(ours))
}

/// The hierarchy that freezes: v1's of that name, else v2's only one.
fn freezing(lines: &[CgroupLine]) -> Option<&str> {
    let freezer = lines
        .iter()
        .find(|line| line.controllers.iter().any(|c| c == "freezer"));
    let found = freezer.or_else(|| lines.iter().find(|line| line.hierarchy == 0));
    found.map(|line| line.path.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_is_asked_of_the_hierarchy_that_freezes() {
        let lines = |text: &str| procfs::parse_cgroups(text).expect("well-formed");
        let v1 = lines("12:freezer:/x\n1:name=systemd:/y\n0::/\n");
        assert_eq!(freezing(&v1), Some("/x"));
        assert_eq!(freezing(&lines("0::/x/agent\n")), Some("/x/agent"));
        assert_eq!(freezing(&lines("3:cpu:/x\n")), None);
    }
}
