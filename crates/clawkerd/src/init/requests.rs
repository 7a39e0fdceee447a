//! What the session half asks, and how it is done.

use std::time::{Duration, Instant};

use super::exec::Due;
use super::link;
use super::supervisor::Supervisor;
use super::tree;
use crate::halves::frame::Received;
use crate::halves::{Goodbye, MAIN, Reply, Request, State, Stray, ToHalf, ToInit};

/// Most pipes of acknowledged execs that are kept open for their descendants.
const MAX_SINKHOLE: usize = 256;

impl Supervisor {
    /// All that the half has said by now.
    pub(super) fn hear(&mut self, now: Instant) {
        let mut inbox = std::mem::take(&mut self.inbox);
        while self.hear_one(&mut inbox, now) {}
        self.inbox = inbox;
    }

    fn hear_one(&mut self, inbox: &mut [u8], now: Instant) -> bool {
        let Some(half) = &mut self.half else { return false };
        match half.flush().and_then(|()| half.recv(inbox)) {
            Ok(Some(received)) => self.take_in(&received, now),
            Ok(None) => return false,
            Err(error) => {
                let why = error.to_string();
                self.half_gone(&format!("is of no use ({why})"), now);
                return false;
            }
        }
        true
    }

    fn take_in(&mut self, received: &Received<'_>, now: Instant) {
        match received.message() {
            Ok(message) => self.obey(message, now),
            Err(error) => self.half_gone(&format!("is of no use ({error})"), now),
        }
    }

    fn obey(&mut self, message: ToInit<'_>, now: Instant) {
        let Some(half) = &mut self.half else { return };
        half.beat(now);
        if let ToInit::Hardened { dumpable, tracer_pid } = message {
            self.cold = true;
            match half.harden(dumpable, tracer_pid) {
                Ok(()) => self.half_hardened(),
                Err(error) => self.half_gone(&format!("is not to be trusted ({error})"), now),
            }
            return;
        }
        if !half.is_hardened() {
            return self.half_gone("spoke before it was hardened", now);
        }
        match message {
            ToInit::Hardened { .. } | ToInit::Heartbeat => {}
            // Of one that a newer connection is on its way to replace nothing follows.
            ToInit::SessionLost if self.link.is_handed_over() => self.link.lost(now),
            ToInit::SessionLost => {}
            ToInit::NeedAgentSocket { id } => self.dial_agent_socket(id),
            ToInit::Request { id, request } => self.answer(id, request, now),
            ToInit::Consumed { exec, stream, offset } => {
                if let Some(exec) = self.execs.get_mut(exec) {
                    exec.consumed(stream, offset);
                }
            }
            ToInit::Stdin { exec, offset, bytes } => {
                let taken = self.execs.get_mut(exec).is_none_or(|exec| exec.stdin(offset, &bytes));
                if !taken {
                    self.half_gone("sent standard input out of turn", now);
                }
            }
            ToInit::StdinEof { exec } => {
                if let Some(exec) = self.execs.get_mut(exec) {
                    exec.stdin_eof();
                }
            }
            ToInit::Resize { exec, rows, cols } => {
                if let Some(exec) = self.execs.get(exec) {
                    exec.resize(rows, cols);
                }
            }
            ToInit::Attached { exec, attached } => {
                if let Some(exec) = self.execs.get_mut(exec) {
                    exec.leave.attached(attached, now);
                }
            }
            ToInit::MainEndNoted { in_session } => self.main_end_noted(in_session, now),
        }
    }

    fn answer(&mut self, id: u64, request: Request, now: Instant) {
        self.cold = true;
        match request {
            Request::Hello { lease } => {
                let length = lease.map_or(self.options.lease(), |s| Duration::from_secs(u64::from(s)));
                self.lease.arm(length, now);
                self.upgrade.serves();
                // From here on the lease rules, not what was to be done without a control plane.
                self.absence.end();
                // From here on the freezer is the control plane's.
                self.freezing = false;
                let state = State {
                    init_life: self.life.clone(),
                    initialized: self.initialized,
                    command_running: self.main.is_some(),
                    lease_frozen: self.lease_frozen,
                    lease_lost: self.lease_lost,
                    session_lives: self.half_lives,
                    half_stopped: std::mem::take(&mut self.half_stopped),
                };
                self.reply(id, Reply::State(Box::new(state)));
            }
            Request::Lease { seconds } => {
                self.lease.arm(Duration::from_secs(u64::from(seconds)), now);
                if std::mem::take(&mut self.lease_frozen) && self.gifts.is_joined() {
                    self.signal_agent(libc::SIGCONT);
                }
                self.lease_lost = false;
                self.freezing = false;
                self.reply(id, Reply::Done);
            }
            Request::Initialized => {
                self.initialized = true;
                self.reply(id, Reply::Done);
            }
            Request::Signal { exec_id, signo } => self.signal(id, &exec_id, signo),
            Request::AckExit { exec_id } => self.acknowledge(id, &exec_id, now),
            Request::Exec(spec) => self.exec(id, &spec, now),
            Request::Ready(spec) => self.agent_ready(id, *spec, now),
            Request::Rotate { leaf, roots } => match self.gifts.rotate(leaf, roots) {
                Ok(()) => self.reply(id, Reply::Done),
                Err(error) => self.fail(id, "bad_identity", error.to_string()),
            },
            Request::Upgrade { digest } => {
                self.upgrade.announce(digest);
                self.reply(id, Reply::Done);
                self.link.anew(now);
            }
        }
    }

    fn signal(&mut self, id: u64, exec_id: &str, signo: u32) {
        let Some(signo) = i32::try_from(signo).ok().filter(|signo| (1..=64).contains(signo)) else {
            return self.fail(id, "bad_signal", format!("{signo} is no signal; they are 1 to 64"));
        };
        let Some(number) = self.execs.find(exec_id) else {
            return self.fail(id, "not_found", format!("no exec {exec_id}"));
        };
        let reached = self.signal_exec(number, signo);
        let strays = tree::strays(self.execs.last_number(), &self.own());
        let strays = strays.into_iter().map(|(pid, name)| Stray { pid, name });
        let reply = Reply::Signalled {
            processes: u32::try_from(reached).unwrap_or(u32::MAX),
            strays: strays.collect(),
        };
        self.reply(id, reply);
    }

    fn dial_agent_socket(&mut self, id: u64) {
        self.cold = true;
        let (error, fds) = match link::dial(&self.options.run_dir.join("agent.sock")) {
            Ok(socket) => (None, vec![socket]),
            Err(error) => (Some(error.to_string()), Vec::new()),
        };
        self.tell(&ToHalf::AgentSocket { id, error }, fds);
    }

    fn acknowledge(&mut self, id: u64, exec_id: &str, now: Instant) {
        if exec_id == MAIN {
            self.main_end_acknowledged(now);
            return self.reply(id, Reply::Done);
        }
        let number = self.execs.find(exec_id);
        let exec = number.and_then(|number| self.execs.get(number));
        if exec.is_some_and(|exec| exec.drained.is_none()) {
            return self.fail(id, "not_drained", format!("exec {exec_id} is not at its end"));
        }
        if let Some(exec) = number.and_then(|number| self.execs.remove(number)) {
            let number = exec.terms.number;
            self.sinkhole.extend(exec.into_sources());
            self.sinkhole.truncate(MAX_SINKHOLE);
            if let Some(half) = &mut self.half {
                half.knows.remove(&number);
            }
            self.tell(&ToHalf::Gone { exec: number }, Vec::new());
        }
        self.reply(id, Reply::Done);
    }

    /// What is due of execs: those whose time is over, those that nobody is attached to any more.
    pub(super) fn keep_execs(&mut self, now: Instant) {
        let mut number = 0;
        while let Some((next, due)) = self.next_exec_due(number, now) {
            number = next;
            self.cold = true;
            let signo = match due {
                Due::TimeIsOver | Due::Deserted(Goodbye::Kill) => libc::SIGKILL,
                Due::Deserted(Goodbye::Hangup) => libc::SIGHUP,
            };
            self.signal_exec(next, signo);
        }
    }

    fn next_exec_due(&mut self, after: u32, now: Instant) -> Option<(u32, Due)> {
        let rest = self.execs.iter_mut().filter(|exec| exec.terms.number > after);
        rest.filter_map(|exec| Some((exec.terms.number, exec.tick(now)?)))
            .next()
    }
}
