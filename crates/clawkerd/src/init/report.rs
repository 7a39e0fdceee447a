//! What PID 1 tells its session half: states, at each change, as fast as the half takes them.

use std::os::fd::OwnedFd;
use std::time::Instant;

use super::supervisor::Supervisor;
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
        let dirty: Vec<String> = self
            .execs
            .values()
            .filter(|exec| exec.dirty)
            .map(|exec| exec.id.clone())
            .collect();
        for id in dirty {
            if !self.half.as_ref().is_some_and(super::half::Half::takes_reports) {
                return;
            }
            self.report_exec(&id);
        }
    }

    fn report_exec(&mut self, id: &str) {
        let (Some(exec), Some(half)) = (self.execs.get_mut(id), &mut self.half) else {
            return;
        };
        // An exec that may still fail to start isn't one yet.
        if exec.is_starting() {
            return;
        }
        let mut rings = Vec::new();
        let mut fds = Vec::new();
        if half.rings_sent.insert(id.to_owned()) {
            for (stream, ring) in exec.rings() {
                if let Ok(fd) = ring.fd().try_clone() {
                    rings.push(RingInfo {
                        stream,
                        capacity: ring.capacity() as u64,
                    });
                    fds.push(fd);
                }
            }
        }
        exec.dirty = false;
        let report = exec.report();
        self.tell(&ToHalf::Exec { report, rings }, fds);
    }

    /// Everything that a new half has to know.
    pub(super) fn report_all(&mut self) {
        for exec in self.execs.values_mut() {
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

    /// Exec's outcome, if it is known by now: told to those who wait; an exec that failed is no more.
    pub(super) fn settle_outcome(&mut self, id: &str) {
        let Some((failure, waiting)) = self.execs.get_mut(id).and_then(super::exec::Exec::outcome) else {
            return;
        };
        let pid = self.execs.get(id).map_or(0, |exec| exec.pid);
        if failure.is_none() && self.half.as_ref().is_some_and(super::half::Half::is_hardened) {
            // Before the answer: whoever hears `Started` may attach at once.
            self.report_exec(id);
        }
        for request in waiting {
            let reply = match &failure {
                None => Reply::Started {
                    exec_id: id.to_owned(),
                    pid,
                },
                Some(failure) => Reply::ExecFailed {
                    exec_id: id.to_owned(),
                    kind: failure.kind.name().to_owned(),
                    errno: failure.errno,
                    message: failure.message(),
                },
            };
            self.reply(request, reply);
        }
        let now = Instant::now();
        match failure {
            None if id == MAIN => self.main_started(now),
            None => {}
            Some(failure) => {
                self.execs.remove(id);
                if id == MAIN {
                    super::terminal::say(&format!("can't execute the command: {}", failure.message()));
                    self.main_failed(failure.kind.exit_code(), now);
                }
            }
        }
    }
}
