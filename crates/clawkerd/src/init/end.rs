//! Signals, the lease, and the end: whoever has to go, goes, frozen or not.
//!
//! A frozen process keeps SIGKILL pending until it is thawed (cgroup v1), so PID 1 always signals first and thaws
//! after. It thaws for no other reason.

use std::time::{Duration, Instant};

use clawker_model::OnOrphan;
use clawker_proc::wait::Ended;
use clawker_proc::{procfs, signal};

use super::supervisor::Supervisor;
use super::{later, terminal};

/// For the session half to tell of the end of `main`.
const NOTICE: Duration = Duration::from_secs(1);
/// From the half's word until its bytes are certainly out.
const FLUSH: Duration = Duration::from_millis(150);
/// Between SIGTERM and SIGKILL when the lease says stop.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// What the container itself shows of `agent`, v1 and v2.
const STATE_FILES: [&str; 2] = [
    "/sys/fs/cgroup/freezer/agent/freezer.state",
    "/sys/fs/cgroup/agent/cgroup.freeze",
];

/// PID 1 is about to exit with this code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ending {
    code: u8,
    at: Instant,
}

impl Ending {
    pub fn at_once(code: u8, now: Instant) -> Self {
        Self { code, at: now }
    }

    pub fn due(&self) -> Instant {
        self.at
    }
}

impl Supervisor {
    /// A signal that PID 1 was sent: the command's, as long as there is one.
    pub(super) fn signalled(&mut self, signo: i32, now: Instant) {
        if signo == libc::SIGCHLD || self.ending.is_some() {
            return;
        }
        self.cold = true;
        let deadly = matches!(signo, libc::SIGTERM | libc::SIGINT | libc::SIGQUIT);
        match &self.main {
            None if deadly => {
                let code = u8::try_from(signo.saturating_add(128)).unwrap_or(u8::MAX);
                self.ending = Some(Ending::at_once(code, now));
            }
            None => {}
            Some(_) if deadly && self.agent_is_frozen() => self.kill_agent(),
            Some(main) => {
                let signo = match signo {
                    libc::SIGTERM => main.stop_signal,
                    // The command leads a session of its own, where the kernel drops a stop that a terminal might have
                    // sent, because no shell is left to end it. The one that can't be dropped means the same.
                    libc::SIGTSTP | libc::SIGTTIN | libc::SIGTTOU => libc::SIGSTOP,
                    other => other,
                };
                let pid = main.pid;
                // Its group, as a terminal would; itself, if it left the group.
                if !matches!(signal::kill(pid.saturating_neg(), signo), Ok(true)) {
                    let _ = signal::kill(pid, signo);
                }
            }
        }
    }

    /// By the kernel's word where the container shows it, else by what PID 1 itself has done.
    fn agent_is_frozen(&self) -> bool {
        STATE_FILES
            .iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
            .map_or(self.lease_frozen, |state| !matches!(state.trim(), "THAWED" | "0"))
    }

    /// SIGKILL to all but PID 1 and the session half, which tells of it; then thaw, so that they can die.
    pub(super) fn kill_agent(&mut self) {
        self.signal_agent(libc::SIGKILL);
        self.freezing = false;
        if let Err(error) = self.gifts.thaw() {
            terminal::say(&format!("thawing agent to end it: {error}"));
        }
    }

    /// A signal to all but PID 1 and the session half.
    pub(super) fn signal_agent(&self, signo: i32) {
        let half = self.half.as_ref().map(|half| half.pid);
        for pid in procfs::pids().unwrap_or_default() {
            if pid != 1 && Some(pid) != half {
                let _ = signal::kill(pid, signo);
            }
        }
    }

    /// By the freezer that the control plane gave; on an engine elsewhere it can't, and SIGSTOP has to do.
    fn freeze_agent(&self) -> std::io::Result<()> {
        if self.gifts.is_joined() {
            self.signal_agent(libc::SIGSTOP);
            return Ok(());
        }
        self.gifts.freeze()
    }

    /// The lease, and what follows when it has run out.
    pub(super) fn keep_lease(&mut self, now: Instant) {
        if self.lease.tick(now) {
            self.cold = true;
            self.lease_lost = true;
            match self.options.on_orphan.action {
                OnOrphan::Continue => terminal::say("no word from the control plane; going on without"),
                OnOrphan::Freeze => {
                    terminal::say("no word from the control plane; the agent is frozen until there is");
                    self.lease_frozen = true;
                    self.freezing = true;
                }
                OnOrphan::Stop => {
                    terminal::say("no word from the control plane; stopping");
                    self.signalled(libc::SIGTERM, now);
                    self.kill_at = Some(later(now, STOP_GRACE));
                }
            }
        }
        if self.freezing
            && let Err(error) = self.freeze_agent()
        {
            terminal::say(&format!("freezing agent: {error}"));
            self.freezing = false;
        }
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill_at = None;
            self.kill_agent();
        }
    }

    /// `main` was reaped: its code is the container's, once the control plane had a moment to hear of it.
    pub(super) fn main_ended(&mut self, ended: Ended, now: Instant) {
        let in_session = self.link.is_handed_over() && self.half.is_some();
        self.ending = Some(Ending {
            code: u8::try_from(ended.shell_code()).unwrap_or(u8::MAX),
            at: if in_session { later(now, NOTICE) } else { now },
        });
    }

    /// `main` could not be executed; said so to whoever asked.
    pub(super) fn main_failed(&mut self, code: u8, now: Instant) {
        self.ending = Some(Ending {
            code,
            at: later(now, FLUSH),
        });
    }

    /// The half has told, or has nobody to tell.
    pub(super) fn main_end_noted(&mut self, in_session: bool, now: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.at = ending.at.min(if in_session { later(now, FLUSH) } else { now });
        }
    }

    /// The control plane has it in its journal.
    pub(super) fn main_end_acknowledged(&mut self, now: Instant) {
        if let Some(ending) = &mut self.ending {
            ending.at = now;
        }
    }

    pub(super) fn end_due(&self, now: Instant) -> Option<u8> {
        self.ending.filter(|ending| now >= ending.at).map(|ending| ending.code)
    }

    /// Leaves nobody behind: the kernel would wait for a frozen child for ever.
    pub(super) fn leave(&self, code: u8) -> u8 {
        let _ = signal::kill_everybody(libc::SIGKILL);
        let _ = self.gifts.thaw();
        code
    }

    /// One exec's whole tree; how many processes that was.
    pub(super) fn signal_exec(&self, number: u32, signo: i32) -> usize {
        let Some(exec) = self.execs.get(number) else { return 0 };
        let roots: Vec<(i32, bool)> = exec.stages.pids().collect();
        self.tree(&roots, number).signal(signo, &self.own())
    }

    /// Processes that are PID 1's, and no signal for an agent is for.
    pub(super) fn own(&self) -> Vec<i32> {
        self.half.iter().map(|half| half.pid).collect()
    }
}
