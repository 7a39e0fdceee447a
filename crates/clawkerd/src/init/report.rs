//! What PID 1 tells its session half: states, at each change, as fast as the half takes them.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::exec::Outcome;
use super::supervisor::Supervisor;
use super::terminal;
use crate::halves::{MAIN, Reply, RingInfo, ToHalf};

impl Supervisor {
    /// One message; a half that can't take it is replaced.
    pub(super) fn tell(&mut self, message: &ToHalf, fds: Vec<OwnedFd>) {
        let Some(half) = &mut self.half else { return };
        if let Err(error) = half.send(message, fds) {
            let why = format!("took no message ({error})");
            self.half_gone(&why, Instant::now());
        }
    }

    pub(super) fn reply(&mut self, id: u64, reply: Reply) {
        self.tell(&ToHalf::Reply { id, reply }, Vec::new());
    }

    pub(super) fn fail(&mut self, id: u64, code: &str, message: impl Into<String>) {
        self.reply(
            id,
            Reply::Failed {
                code: code.to_owned(),
                message: message.into(),
            },
        );
    }

    /// Every exec that changed, while the half keeps up. What isn't told now is told with the next change or turn.
    pub(super) fn report(&mut self) {
        let mut number = 0;
        while let Some(next) = self.execs.next_dirty(number) {
            number = next;
            if !self.half.as_ref().is_some_and(super::half::Half::takes_reports) {
                return;
            }
            self.report_exec(next);
        }
    }

    fn report_exec(&mut self, number: u32) {
        self.introduce(number);
        let (Some(exec), Some(half)) = (self.execs.get_mut(number), &mut self.half) else {
            return;
        };
        // An exec that may still fail to start isn't one yet.
        if exec.is_starting() {
            return;
        }
        exec.dirty = false;
        if let Err(error) = half.say(&ToHalf::Report(exec.report())) {
            let why = format!("took no message ({error})");
            self.half_gone(&why, Instant::now());
        }
    }

    /// Tells a half that doesn't know this exec of it, with its rings.
    fn introduce(&mut self, number: u32) {
        let (Some(exec), Some(half)) = (self.execs.get(number), &mut self.half) else {
            return;
        };
        if exec.is_starting() || half.knows.contains(&number) {
            return;
        }
        self.cold = true;
        half.knows.insert(number);
        let mut rings = Vec::new();
        let mut fds = Vec::new();
        for (stream, ring) in exec.rings() {
            if let Ok(fd) = ring.fd().try_clone() {
                rings.push(RingInfo {
                    stream,
                    capacity: ring.capacity() as u64,
                });
                fds.push(fd);
            }
        }
        let message = ToHalf::Began {
            exec: number,
            exec_id: exec.terms.id.clone(),
            rings,
        };
        self.tell(&message, fds);
    }

    /// Everything that a new half has to know.
    pub(super) fn report_all(&mut self) {
        for exec in self.execs.iter_mut() {
            exec.dirty = true;
        }
        if let Some(healthy) = self.health.as_ref().and_then(super::health::Health::healthy) {
            self.tell(
                &ToHalf::Health {
                    healthy,
                    detail: String::new(),
                },
                Vec::new(),
            );
        }
    }

    /// How it went to execute an exec's stages, if that is known by now: told to those who wait; an exec that failed
    /// is no more.
    pub(super) fn settle_outcome(&mut self, number: u32) {
        let Some(exec) = self.execs.get_mut(number) else { return };
        let Some(outcome) = exec.stages.settle() else { return };
        self.cold = true;
        exec.dirty = true;
        let (exec_id, pid, waiting) = (exec.terms.id.clone(), exec.stages.pid(), exec.take_waiting());
        let reply = match &outcome {
            Outcome::Started => Reply::Started {
                exec_id: exec_id.clone(),
                pid,
            },
            Outcome::Failed(stage, failure) => Reply::ExecFailed {
                exec_id: exec_id.clone(),
                kind: failure.kind.name().to_owned(),
                errno: failure.errno,
                stage: *stage,
                message: failure.message(),
            },
        };
        if outcome == Outcome::Started && self.half.as_ref().is_some_and(super::half::Half::is_hardened) {
            // Before the answer: whoever hears `Started` may attach at once.
            self.report_exec(number);
        }
        for request in waiting {
            self.reply(request, reply.clone());
        }
        match outcome {
            Outcome::Started if exec_id == MAIN => self.main_started(),
            Outcome::Started => {}
            Outcome::Failed(_, failure) => {
                // What of a pipeline could be executed.
                self.signal_exec(number, libc::SIGKILL);
                self.execs.remove(number);
                if exec_id == MAIN {
                    let command = self.main.as_ref().map_or("the command", |main| &main.name);
                    terminal::say(&format!("can't execute `{command}`: {}", failure.message()));
                    self.main_failed(failure.kind.exit_code(), Instant::now());
                }
            }
        }
    }
}
