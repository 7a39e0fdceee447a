//! Which processes belong to an exec, and a signal to all of them.
//!
//! Four things tell: the session and the group that its stages lead, who descends from them, and the mark that all
//! of them were born with. Whoever changes session, group and parent still carries the mark. One that has lowered its
//! own mark as well belongs to nobody that PID 1 knows: it isn't signalled, and it is named.

use clawker_proc::mark;
use clawker_proc::pidfd::PidFd;
use clawker_proc::procfs::{self, Stat};

/// Rounds of a SIGKILL: in each are those that were forked during the one before.
const ROUNDS: u32 = 64;
/// Most strays that are named.
const MAX_STRAYS: usize = 32;

/// Whom a signal is for.
pub struct Tree<'a> {
    /// The stages' pids, and whether each was reaped: then its number may be another's, and only its session and group
    /// still say something.
    pub roots: &'a [(i32, bool)],
    pub mark: u32,
    /// The last mark that was given to anybody.
    pub last_mark: u32,
}

/// Processes that nothing is sent to: PID 1's own.
pub type Spared<'a> = &'a [i32];

impl Tree<'_> {
    /// To every member that lives; how many there were. With SIGKILL until there is no new one.
    pub fn signal(&self, signo: i32, spared: Spared<'_>) -> usize {
        let mut reached: Vec<(i32, u64)> = Vec::new();
        let rounds = if signo == libc::SIGKILL { ROUNDS } else { 1 };
        for _ in 0..rounds {
            let before = reached.len();
            let all = procfs::all().unwrap_or_default();
            for process in self.members(&all, spared) {
                let who = (process.pid, process.start_time);
                if !reached.contains(&who) && signal(process, signo) {
                    reached.push(who);
                }
            }
            if reached.len() == before {
                break;
            }
        }
        reached.len()
    }

    fn members<'s>(&self, all: &'s [Stat], spared: Spared<'_>) -> Vec<&'s Stat> {
        self.members_by(all, spared, |pid| mark::of(pid).ok().flatten())
    }

    fn members_by<'s>(
        &self,
        all: &'s [Stat],
        spared: Spared<'_>,
        marked: impl Fn(i32) -> Option<u32>,
    ) -> Vec<&'s Stat> {
        let leads = |id: i32| self.roots.iter().find(|(root, _)| *root == id);
        let mut found: Vec<i32> = Vec::new();
        for process in all {
            let mark = marked(process.pid);
            let anothers = mark.is_some_and(|mark| mark != self.mark && (1..=self.last_mark).contains(&mark));
            let belongs = match leads(process.session).or_else(|| leads(process.pgrp)) {
                // The leader's number may have come to another since, and with it a session of that number.
                Some((_, reaped)) => !reaped || !anothers,
                None => self.roots.contains(&(process.pid, false)) || mark == Some(self.mark),
            };
            if belongs {
                found.push(process.pid);
            }
        }
        let mut next = 0;
        while let Some(&parent) = found.get(next) {
            next = next.saturating_add(1);
            for child in all.iter().filter(|process| process.ppid == parent) {
                if !found.contains(&child.pid) {
                    found.push(child.pid);
                }
            }
        }
        all.iter()
            .filter(|process| found.contains(&process.pid))
            .filter(|process| process.pid != 1 && !spared.contains(&process.pid) && process.state != 'Z')
            .collect()
    }
}

/// The same process still, and not one that got its number since.
fn signal(process: &Stat, signo: i32) -> bool {
    let Ok(held) = PidFd::open(process.pid) else {
        return false;
    };
    procfs::start_time(process.pid).is_ok_and(|time| time == process.start_time) && held.signal(signo).is_ok()
}

/// Orphans of PID 1's whose mark it never gave, by pid and name.
pub fn strays(last_mark: u32, own: Spared<'_>) -> Vec<(i32, String)> {
    let all = procfs::all().unwrap_or_default();
    let orphans = all
        .into_iter()
        .filter(|process| process.ppid == 1 && !own.contains(&process.pid));
    orphans
        .filter(|process| process.state != 'Z')
        .filter(|process| {
            let mark = mark::of(process.pid).ok().flatten();
            !mark.is_some_and(|mark| (1..=last_mark).contains(&mark))
        })
        .take(MAX_STRAYS)
        .map(|process| (process.pid, process.comm))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, ppid: i32, session: i32) -> Stat {
        Stat {
            pid,
            comm: String::new(),
            state: 'S',
            ppid,
            pgrp: session,
            session,
            flags: 0,
            start_time: 1,
        }
    }

    #[test]
    fn a_tree_is_session_group_descent_and_mark() {
        let mut group = process(14, 1, 99);
        group.pgrp = 10;
        let mut zombie = process(15, 10, 10);
        zombie.state = 'Z';
        let all = [
            process(1, 0, 1),
            process(2, 1, 2),
            process(10, 1, 10),
            process(11, 10, 10),
            // Left the session, but not its parent; and below it.
            process(12, 11, 12),
            process(13, 12, 13),
            group,
            zombie,
            // Left everything but its mark; and below it.
            process(20, 1, 20),
            process(21, 20, 21),
            // Another exec's.
            process(30, 1, 30),
        ];
        let marked = |pid: i32| match pid {
            20 => Some(7),
            30 => Some(8),
            _ => None,
        };
        let pids = |roots: &[(i32, bool)]| -> Vec<i32> {
            let tree = Tree {
                roots,
                mark: 7,
                last_mark: 8,
            };
            tree.members_by(&all, &[2], marked)
                .iter()
                .map(|stat| stat.pid)
                .collect()
        };
        assert_eq!(pids(&[(10, false)]), [10, 11, 12, 13, 14, 20, 21]);
        // Reaped, and its number is another's now, of another session.
        assert_eq!(pids(&[(30, true)]), [20, 21]);
        assert_eq!(pids(&[(12, true)]), [12, 13, 20, 21], "unmarked: its own doing");
        assert!(pids(&[(2, false)]).iter().all(|pid| *pid != 2), "PID 1's own is spared");
    }
}
