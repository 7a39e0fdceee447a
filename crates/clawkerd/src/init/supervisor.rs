//! PID 1's loop: what is ready is handled, what is due is done, what changed is told; then poll.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_proc::signal::SignalFd;
use clawker_proc::{harden, signal, wait};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::absence::{Absence, Due};
use super::agent::Gifts;
use super::end::Ending;
use super::exec::{Exec, Source, discard};
use super::half::Half;
use super::health::Health;
use super::lease::{Lease, MAX_GAP};
use super::way::Way;
use super::{Options, ready, terminal};
use crate::halves::{MAIN, ToHalf};

/// The loop turns at least this often: the lease and the heartbeat are measured by it.
const TICK: Duration = Duration::from_secs(1);
const FIRST_RESPAWN: Duration = Duration::from_millis(50);
const MAX_RESPAWN: Duration = Duration::from_secs(5);

/// Everything of PID 1's. The parts that answer the session half are in `requests`, `report` and `end`.
pub struct Supervisor {
    pub(super) options: Options,
    signals: SignalFd,
    pub(super) life: String,
    pub(super) half: Option<Half>,
    pub(super) half_lives: u32,
    /// A half was lost since the last Hello.
    pub(super) half_stopped: bool,
    respawn: Duration,
    respawn_at: Instant,
    pub(super) link: Way,
    pub(super) gifts: Gifts,
    pub(super) lease: Lease,
    /// Until the first Hello of this start.
    pub(super) absence: Absence,
    /// The command was run by the defaults: what is started from then on may lack the control plane's cgroup.
    pub(super) unprepared: bool,
    /// The lease ran out and none has come since.
    pub(super) lease_lost: bool,
    /// PID 1 has written FROZEN and no lease has come since; true until then, so that each Hello hears of it.
    pub(super) lease_frozen: bool,
    /// FROZEN is written again each second, because v1 may need that, until a Hello comes.
    pub(super) freezing: bool,
    pub(super) initialized: bool,
    pub(super) execs: BTreeMap<String, Exec>,
    /// Pipes of acknowledged execs that descendants still write to.
    pub(super) sinkhole: Vec<OwnedFd>,
    pub(super) main: Option<MainCommand>,
    pub(super) health: Option<Health>,
    pub(super) ending: Option<Ending>,
    /// The lease said stop: when what is left is killed.
    pub(super) kill_at: Option<Instant>,
    last_turn: Instant,
}

/// What PID 1 keeps of AgentReady, without its secrets.
pub struct MainCommand {
    pub pid: i32,
    pub stop_signal: i32,
    pub no_new_privs: bool,
}

enum Token {
    Signals,
    Half,
    Link,
    Exec(String, Source),
    Sinkhole(usize),
}

impl Supervisor {
    /// First of all: not readable by anybody, and no signal unhandled.
    pub fn new(options: Options) -> io::Result<Self> {
        harden::undumpable()?;
        let signals = SignalFd::block_all()?;
        // The agent's command gets the terminal; a hang-up that comes of letting go is ours alone.
        terminal::give_up();
        ready::remove();
        let now = Instant::now();
        let mut life = [0u8; 16];
        rustix::rand::getrandom(&mut life, rustix::rand::GetRandomFlags::empty())?;
        let mut gifts = Gifts::default();
        let link = Way::new(&options, now, &mut gifts).map_err(io::Error::other)?;
        Ok(Self {
            link,
            absence: Absence::new(options.on_absent, now),
            options,
            signals,
            life: life.iter().map(|byte| format!("{byte:02x}")).collect(),
            half: None,
            half_lives: 0,
            half_stopped: false,
            respawn: FIRST_RESPAWN,
            respawn_at: now,
            gifts,
            lease: Lease::new(now),
            unprepared: false,
            lease_lost: false,
            lease_frozen: false,
            freezing: false,
            initialized: false,
            execs: BTreeMap::new(),
            sinkhole: Vec::new(),
            main: None,
            health: None,
            ending: None,
            kill_at: None,
            last_turn: now,
        })
    }

    pub fn run(mut self) -> u8 {
        loop {
            let now = Instant::now();
            self.notice_gap(now);
            self.reap(now);
            self.keep_half(now);
            self.keep_link(now);
            self.keep_lease(now);
            self.keep_execs(now);
            self.keep_health(now);
            self.await_control_plane(now);
            self.report();
            if let Some(code) = self.end_due(now) {
                return self.leave(code);
            }
            for token in self.wait(now) {
                self.handle(&token, Instant::now());
            }
        }
    }

    /// After a gap PID 1 was stopped itself, and so was everybody else.
    fn notice_gap(&mut self, now: Instant) {
        if now.saturating_duration_since(self.last_turn) > MAX_GAP
            && let Some(half) = &mut self.half
        {
            half.forgive(now);
        }
        self.last_turn = now;
    }

    fn wait(&self, now: Instant) -> Vec<Token> {
        let mut tokens = vec![Token::Signals];
        let mut fds: Vec<(BorrowedFd<'_>, PollFlags)> = vec![(self.signals.as_fd(), PollFlags::IN)];
        if let Some(half) = &self.half {
            tokens.push(Token::Half);
            fds.push(half.poll());
        }
        // Without a half that may have it, an answer waits: polling for it would only spin.
        let hardened = self.half.as_ref().is_some_and(Half::is_hardened);
        if let Some(link) = self.link.poll().filter(|_| hardened) {
            tokens.push(Token::Link);
            fds.push(link);
        }
        for (id, exec) in &self.execs {
            for (source, fd, flags) in exec.poll() {
                tokens.push(Token::Exec(id.clone(), source));
                fds.push((fd, flags));
            }
        }
        for (index, fd) in self.sinkhole.iter().enumerate() {
            tokens.push(Token::Sinkhole(index));
            fds.push((fd.as_fd(), PollFlags::IN));
        }
        let mut fds: Vec<PollFd<'_>> = fds
            .into_iter()
            .map(|(fd, flags)| PollFd::from_borrowed_fd(fd, flags))
            .collect();
        let timeout = self.next_due(now).saturating_duration_since(now).min(TICK);
        let timeout = Timespec::try_from(timeout).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) => tokens
                .into_iter()
                .zip(&fds)
                .filter(|(_, fd)| !fd.revents().is_empty())
                .map(|(token, _)| token)
                .rev()
                .collect(),
            Err(_) => Vec::new(),
        }
    }

    fn next_due(&self, now: Instant) -> Instant {
        let respawn = self.half.is_none().then_some(self.respawn_at);
        let link = if self.half.as_ref().is_some_and(Half::is_hardened) {
            self.link.due()
        } else {
            None
        };
        let ending = self.ending.as_ref().map(Ending::due);
        let health = self.health.as_ref().map(Health::next);
        let execs = self.execs.values().filter_map(Exec::due).min();
        [respawn, link, ending, health, execs, self.kill_at, self.absence.due()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or(now + TICK)
    }

    fn handle(&mut self, token: &Token, now: Instant) {
        match token {
            Token::Signals => {
                while let Ok(Some(signo)) = self.signals.next() {
                    self.signalled(signo, now);
                }
            }
            Token::Half => self.hear(now),
            Token::Link => self.keep_link(now),
            Token::Exec(id, source) => self.exec_ready(id, *source),
            Token::Sinkhole(index) => {
                // Tokens come last first, so the ones before this keep their place.
                let over = self.sinkhole.get(*index).is_some_and(|fd| match discard(fd.as_fd()) {
                    Ok(n) => n == 0,
                    Err(e) => e.kind() != io::ErrorKind::WouldBlock,
                });
                if over {
                    self.sinkhole.remove(*index);
                }
            }
        }
    }

    fn exec_ready(&mut self, id: &str, source: Source) {
        let Some(exec) = self.execs.get_mut(id) else { return };
        match source {
            Source::Outcome => self.settle_outcome(id),
            Source::Output(stream) => exec.read(stream),
            Source::Stdin => exec.write_stdin(),
        }
    }

    /// Every child that has ended, ours and the orphans that came to us.
    fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, ended))) = wait::any() {
            if self.half.as_ref().is_some_and(|half| half.pid == pid) {
                self.half_gone("died", now);
                continue;
            }
            if let Some(health) = self.health.as_mut().filter(|health| health.pid() == Some(pid)) {
                if let Some((healthy, detail)) = health.ended(ended, now) {
                    self.tell(&ToHalf::Health { healthy, detail }, Vec::new());
                }
                continue;
            }
            let id = self
                .execs
                .values()
                .find(|exec| exec.pid == pid && exec.ended.is_none())
                .map(|exec| exec.id.clone());
            if let Some(id) = id {
                // It may have failed before exec: then it never was what it was to be.
                self.settle_outcome(&id);
                if let Some(exec) = self.execs.get_mut(&id) {
                    exec.end(ended, now);
                    exec.tick(now);
                }
                if id == MAIN {
                    self.main_ended(ended, now);
                }
            }
        }
    }

    /// One that lives, beats and takes messages; else another.
    fn keep_half(&mut self, now: Instant) {
        if self.half.as_ref().is_some_and(|half| half.is_overdue(now)) {
            self.half_gone("was silent", now);
        }
        if self.half.is_none() && now >= self.respawn_at {
            match Half::start(now) {
                Ok(half) => {
                    self.half = Some(half);
                    self.half_lives += 1;
                }
                Err(error) => {
                    terminal::say(&error.to_string());
                    self.plan_respawn(now);
                }
            }
        }
    }

    /// Kills it if it still lives. Its connection is gone with it; its execs are not.
    pub(super) fn half_gone(&mut self, why: &str, now: Instant) {
        let Some(half) = self.half.take() else { return };
        let _ = signal::kill(half.pid, libc::SIGKILL);
        terminal::say(&format!("the session half {why}; starting another"));
        self.half_stopped = true;
        for exec in self.execs.values_mut() {
            exec.forget_waiting();
            exec.dirty = true;
        }
        if self.link.is_handed_over() {
            self.link.lost(now);
        }
        self.plan_respawn(now);
    }

    fn plan_respawn(&mut self, now: Instant) {
        self.respawn_at = now + self.respawn;
        self.respawn = (self.respawn * 2).min(MAX_RESPAWN);
    }

    /// Dials, greets, hands over. Only for a half that may have it.
    fn keep_link(&mut self, now: Instant) {
        if !self.half.as_ref().is_some_and(Half::is_hardened) {
            return;
        }
        match self.link.advance(now, &mut self.gifts) {
            Ok(Some(established)) => match self.gifts.take(established) {
                Ok((socket, bundle)) => {
                    if self.unprepared {
                        self.adopt();
                    }
                    // Sent and closed: the half's copy is the only one left.
                    self.tell(&ToHalf::Session, vec![socket, bundle]);
                    self.respawn = FIRST_RESPAWN;
                }
                Err(error) => {
                    terminal::say(&error.to_string());
                    self.link.lost(now);
                }
            },
            Ok(None) => {}
            Err(error) if error.is_absence() => {}
            Err(error) => terminal::say(&error.to_string()),
        }
    }

    /// What becomes of a start whose control plane doesn't come.
    fn await_control_plane(&mut self, now: Instant) {
        if self.ending.is_some() {
            return;
        }
        match self.absence.tick(self.link.is_handed_over(), now) {
            Due::Nothing => {}
            Due::Say(line) => terminal::say(&line),
            Due::GiveUp => {
                terminal::say("no control plane came");
                self.ending = Some(Ending::at_once(crate::cli::NO_CONTROL_PLANE, now));
            }
            Due::RunDefaults => self.run_defaults(now),
        }
    }
}
