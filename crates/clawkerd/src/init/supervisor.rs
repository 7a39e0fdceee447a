//! PID 1's loop: what is ready is handled, what is due is done, what changed is told; then poll.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use clawker_proc::poll::PollSet;
use clawker_proc::signal::SignalFd;
use clawker_proc::wait::Ended;
use clawker_proc::{harden, signal, wait};
use rustix::event::PollFlags;

use super::absence::{Absence, Due};
use super::agent::{Gifts, Handover};
use super::end::Ending;
use super::exec::{Exec, Source, discard};
use super::execs::Execs;
use super::half::Half;
use super::health::Health;
use super::keep::FIRST_RESPAWN;
use super::lease::{Lease, MAX_GAP};
use super::oom::OomKills;
use super::upgrade::Upgrade;
use super::way::Way;
use super::{Options, descriptors, later, ready, terminal};
#[cfg(debug_assertions)]
use crate::counting::Tally;
use crate::halves::MAIN;
use crate::halves::frame::MAX_INLINE;

/// The loop turns at least this often: the lease and the heartbeat are measured by it.
const TICK: Duration = Duration::from_secs(1);

/// Everything of PID 1's. The parts that answer the session half are in `requests`, `report` and `end`.
pub struct Supervisor {
    pub(super) options: Options,
    signals: SignalFd,
    pub(super) life: String,
    pub(super) half: Option<Half>,
    pub(super) half_lives: u32,
    /// A half was lost since the last Hello.
    pub(super) half_stopped: bool,
    pub(super) respawn: Duration,
    pub(super) respawn_at: Instant,
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
    pub(super) execs: Execs,
    /// What descriptors are waited for; kept for its room.
    polled: PollSet<Token>,
    /// Where frames of the half are read to.
    pub(super) inbox: Vec<u8>,
    oom_kills: OomKills,
    /// Which program the session half is.
    pub(super) upgrade: Upgrade,
    /// A connection that waits for the half that came with it.
    pub(super) handover: Option<Handover>,
    /// This turn did more than move bytes.
    pub(super) cold: bool,
    #[cfg(debug_assertions)]
    tally: Tally,
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
    /// As it was called.
    pub name: String,
    pub stop_signal: i32,
    pub no_new_privs: bool,
}

#[derive(Debug, Clone, Copy)]
enum Token {
    Signals,
    Half,
    Link,
    Exec(u32, Source),
    Sinkhole(usize),
}

impl Supervisor {
    /// First of all: not readable by anybody, and no signal unhandled.
    pub fn new(options: Options) -> io::Result<Self> {
        harden::undumpable()?;
        // Whoever starts a container may have SIGCHLD ignored: then the kernel would reap, and no end be known.
        signal::reset()?;
        let signals = SignalFd::block_all()?;
        descriptors::raise();
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
            execs: Execs::default(),
            polled: PollSet::default(),
            inbox: vec![0; MAX_INLINE],
            oom_kills: OomKills::watch(),
            upgrade: Upgrade::default(),
            handover: None,
            cold: true,
            #[cfg(debug_assertions)]
            tally: Tally::default(),
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
            if let Some(code) = self.turn(Instant::now()) {
                #[cfg(debug_assertions)]
                if let Some(path) = &self.options.count_allocations {
                    let _ = self.tally.write(path);
                }
                return self.leave(code);
            }
            #[cfg(debug_assertions)]
            self.tally.turned(self.cold);
            self.cold = false;
            self.wait(Instant::now());
            for index in (0..self.polled.len()).rev() {
                if let Some(token) = self.polled.ready(index) {
                    self.handle(token, Instant::now());
                }
            }
        }
    }

    /// All that may be due; the exit code when this start is over.
    fn turn(&mut self, now: Instant) -> Option<u8> {
        self.notice_gap(now);
        self.reap(now);
        self.keep_half(now);
        self.keep_link(now);
        self.keep_lease(now);
        self.keep_execs(now);
        self.keep_health(now);
        self.await_control_plane(now);
        self.report();
        self.end_due(now)
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

    fn wait(&mut self, now: Instant) {
        let timeout = self.next_due(now).saturating_duration_since(now).min(TICK);
        let set = &mut self.polled;
        set.clear();
        set.push(self.signals.as_fd(), PollFlags::IN, Token::Signals);
        if let Some(half) = &self.half {
            let (fd, flags) = half.poll();
            set.push(fd, flags, Token::Half);
        }
        // Without a half that may have it, an answer waits: polling for it would only spin.
        let hardened = self.half.as_ref().is_some_and(Half::is_hardened);
        if let Some((fd, flags)) = self.link.poll().filter(|_| hardened) {
            set.push(fd, flags, Token::Link);
        }
        for exec in self.execs.iter() {
            for (source, fd, flags) in exec.poll() {
                set.push(fd, flags, Token::Exec(exec.terms.number, source));
            }
        }
        for (index, fd) in self.sinkhole.iter().enumerate() {
            set.push(fd.as_fd(), PollFlags::IN, Token::Sinkhole(index));
        }
        // Nothing is ready then, and the next turn waits again.
        let _ = set.wait(timeout);
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
        let execs = self.execs.iter().filter_map(Exec::due).min();
        [respawn, link, ending, health, execs, self.kill_at, self.absence.due()]
            .into_iter()
            .flatten()
            .min()
            .unwrap_or_else(|| later(now, TICK))
    }

    /// Handled last first, so that places in the sinkhole keep their meaning.
    fn handle(&mut self, token: Token, now: Instant) {
        match token {
            Token::Signals => {
                while let Ok(Some(signo)) = self.signals.next() {
                    self.signalled(signo, now);
                }
            }
            Token::Half => self.hear(now),
            Token::Link => self.keep_link(now),
            Token::Exec(number, source) => self.exec_ready(number, source),
            Token::Sinkhole(index) => {
                let over = self.sinkhole.get(index).is_some_and(|fd| match discard(fd.as_fd()) {
                    Ok(n) => n == 0,
                    Err(e) => e.kind() != io::ErrorKind::WouldBlock,
                });
                if over {
                    self.sinkhole.remove(index);
                }
            }
        }
    }

    fn exec_ready(&mut self, number: u32, source: Source) {
        let Some(exec) = self.execs.get_mut(number) else { return };
        match source {
            Source::Outcome(_) => self.settle_outcome(number),
            Source::Output(stream) => exec.read(stream),
            Source::Stdin => exec.write_stdin(),
        }
    }

    /// Every child that has ended, ours and the orphans that came to us.
    fn reap(&mut self, now: Instant) {
        while let Ok(Some((pid, ended))) = wait::any() {
            if self.half.as_ref().is_some_and(|half| half.pid == pid) {
                self.half_gone("died", now);
            } else if self.health.as_ref().is_some_and(|health| health.pid() == Some(pid)) {
                self.cold = true;
                self.check_ended(ended, now);
            } else if let Some(number) = self.execs.with_living(pid) {
                self.cold = true;
                self.exec_ended(number, pid, ended, now);
            }
        }
    }

    fn exec_ended(&mut self, number: u32, pid: i32, ended: Ended, now: Instant) {
        // It may have failed before it was executed: then it never was what it was to be.
        self.settle_outcome(number);
        let Some(exec) = self.execs.get_mut(number) else { return };
        if ended == Ended::Signaled(libc::SIGKILL) && self.oom_kills.another() {
            exec.oom = true;
        }
        exec.end(pid, ended, now);
        exec.tick(now);
        if let Some(ended) = exec.ended.filter(|_| exec.terms.id == MAIN) {
            self.main_ended(ended, now);
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
