//! One session half and one connection, kept: started again when they are lost, replaced when another half came.

use std::time::{Duration, Instant};

use clawker_proc::signal;

use super::agent::Handover;
use super::half::Half;
use super::supervisor::Supervisor;
use super::{later, terminal};
use crate::halves::ToHalf;

pub const FIRST_RESPAWN: Duration = Duration::from_millis(50);
const MAX_RESPAWN: Duration = Duration::from_secs(5);

impl Supervisor {
    /// One that lives, beats and takes messages; else another.
    pub(super) fn keep_half(&mut self, now: Instant) {
        if self.half.as_ref().is_some_and(|half| half.is_overdue(now)) {
            self.half_gone("was silent", now);
        }
        if self.half.is_none() && now >= self.respawn_at {
            self.cold = true;
            match Half::start(self.upgrade.image(), now) {
                Ok(half) => {
                    self.half = Some(half);
                    self.half_lives = self.half_lives.saturating_add(1);
                }
                Err(error) => {
                    terminal::say(&error.to_string());
                    self.plan_respawn(now);
                }
            }
        }
    }

    /// The half may have a connection now: the one that it came with, if there is that.
    pub(super) fn half_hardened(&mut self) {
        self.report_all();
        if let Some(Handover { socket, bundle, .. }) = self.handover.take() {
            self.tell(&ToHalf::Session, vec![socket, bundle]);
        }
    }

    /// Kills it if it still lives. Its connection is gone with it; its execs are not.
    pub(super) fn half_gone(&mut self, why: &str, now: Instant) {
        if !self.end_half(now) {
            return;
        }
        if self.upgrade.failed() {
            terminal::say("the session half that came with an upgrade is of no use; going back to the first one");
        } else {
            terminal::say(&format!("the session half {why}; starting another"));
        }
        self.half_stopped = true;
        if self.link.is_handed_over() {
            self.link.lost(now);
        }
        self.plan_respawn(now);
    }

    fn end_half(&mut self, now: Instant) -> bool {
        self.cold = true;
        let Some(half) = self.half.take() else { return false };
        let _ = signal::kill(half.pid, libc::SIGKILL);
        self.handover = None;
        for exec in self.execs.iter_mut() {
            exec.take_waiting();
            exec.leave.attached(false, now);
            exec.dirty = true;
        }
        true
    }

    /// Another program takes the half's place, and this connection.
    fn replace_half(&mut self, handover: Handover, now: Instant) {
        self.end_half(now);
        self.handover = Some(handover);
        self.respawn_at = now;
        self.keep_half(now);
    }

    fn plan_respawn(&mut self, now: Instant) {
        self.respawn_at = later(now, self.respawn);
        self.respawn = self.respawn.saturating_mul(2).min(MAX_RESPAWN);
    }

    /// Dials, greets, hands over. Only for a half that may have it.
    pub(super) fn keep_link(&mut self, now: Instant) {
        if !self.half.as_ref().is_some_and(Half::is_hardened)
            || self.link.is_handed_over() && self.link.poll().is_none()
        {
            return;
        }
        self.cold = true;
        match self.link.advance(now, &mut self.gifts) {
            Ok(Some(established)) => match self.gifts.take(established) {
                Ok(handover) => self.hand_over(handover, now),
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

    /// The half's copy of what is handed over is the only one left.
    fn hand_over(&mut self, mut handover: Handover, now: Instant) {
        if self.unprepared {
            self.adopt();
        }
        self.respawn = FIRST_RESPAWN;
        match handover.half.take().map(|half| self.upgrade.take(half)) {
            Some(Ok(())) => return self.replace_half(handover, now),
            Some(Err(error)) => terminal::say(&format!("{error}; going on with the one that there is")),
            None => {}
        }
        self.tell(&ToHalf::Session, vec![handover.socket, handover.bundle]);
    }
}
