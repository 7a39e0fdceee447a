//! The health check as a process: spawned, killed when it hangs.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use clawker_proc::wait::Ended;

use super::command::{CommandError, Extra, build};
use super::health::Due;
use super::spawn::{FailureKind, Stdio, spawn};
use super::supervisor::Supervisor;
use crate::halves::{MAIN, Stage, ToHalf};
use crate::user::Files;

impl Supervisor {
    pub(super) fn keep_health(&mut self, now: Instant) {
        let main = self.execs.find(MAIN).and_then(|number| self.execs.get(number));
        let started = main.is_some_and(|main| !main.is_starting() && main.ended.is_none());
        let Some(health) = &mut self.health else { return };
        match health.due(now) {
            Due::Start if started => {
                self.cold = true;
                let stage = health.stage.clone();
                match self.spawn_check(&stage) {
                    Ok(pid) => {
                        if let Some(health) = &mut self.health {
                            health.spawned(pid, now);
                        }
                    }
                    Err(_) => self.check_failed(now),
                }
            }
            Due::Start => health.postpone(now),
            Due::Kill(pid) => {
                self.cold = true;
                self.tree(&[(pid, false)], 0).signal(libc::SIGKILL, &self.own());
            }
            Due::Nothing => {}
        }
    }

    fn spawn_check(&mut self, stage: &Stage) -> Result<i32, CommandError> {
        let null = || -> io::Result<OwnedFd> {
            Ok(std::fs::File::options()
                .read(true)
                .write(true)
                .open("/dev/null")?
                .into())
        };
        let extra = Extra {
            env: Vec::new(),
            mark: self.execs.number(),
            no_new_privs: true,
            create_cwd: false,
            stdio: Stdio::Given {
                stdin: null()?,
                stdout: null()?,
                stderr: null()?,
            },
            files: &Files::read(),
        };
        let command = build(stage, extra)?;
        // The outcome pipe is dropped: a check that can't be executed exits 126 or 127, which is a failure.
        Ok(spawn(&command, self.procs()?)?.pid)
    }

    fn check_failed(&mut self, now: Instant) {
        self.check_ended(Ended::Exited(i32::from(FailureKind::Spawn.exit_code())), now);
    }

    pub(super) fn check_ended(&mut self, ended: Ended, now: Instant) {
        if let Some((healthy, detail)) = self.health.as_mut().and_then(|health| health.ended(ended, now)) {
            self.tell(&ToHalf::Health { healthy, detail }, Vec::new());
        }
    }
}
