//! The agent's own command, exec `main`: spawned once a start, because a control plane says so or because none came.

use std::io;
use std::time::Instant;

use clawker_proc::signal;

use super::command::{CommandError, Extra, build};
use super::exec::{Exec, Pipes, Stages, Terms};
use super::health::Health;
use super::spawn::{Stdio, spawn};
use super::supervisor::{MainCommand, Supervisor};
use super::{ready, secrets, terminal};
use crate::halves::{MAIN, ReadySpec, Reply};
use crate::user::Files;

impl Supervisor {
    /// Spawns the agent's command, once a start. Asked again, it answers what it answered.
    pub(super) fn agent_ready(&mut self, id: u64, spec: ReadySpec, now: Instant) {
        if let Some(exec) = self.execs.find(MAIN).and_then(|number| self.execs.get_mut(number)) {
            let pid = exec.stages.pid();
            if !exec.wait(id) {
                self.reply(
                    id,
                    Reply::Started {
                        exec_id: MAIN.to_owned(),
                        pid,
                    },
                );
            }
            return;
        }
        if self.ending.is_some() {
            return self.fail(id, "ending", "this start is at its end");
        }
        self.let_run(&spec, Some(id), now);
    }

    /// No control plane came, and its creator wanted the command to run all the same.
    pub(super) fn run_defaults(&mut self, now: Instant) {
        let Some(spec) = self.options.defaults.take() else {
            return;
        };
        terminal::say("no control plane came; the command runs unprepared, on a network that nobody verified");
        self.unprepared = true;
        self.let_run(&spec, None, now);
    }

    fn let_run(&mut self, spec: &ReadySpec, asked: Option<u64>, now: Instant) {
        self.link.clear();
        match self.spawn_main(spec) {
            Ok(mut exec) => {
                if let Some(id) = asked {
                    exec.wait(id);
                }
                self.main = Some(MainCommand {
                    pid: exec.stages.pid(),
                    name: spec.main.argv.first().cloned().unwrap_or_default(),
                    stop_signal: signal::parse(&spec.stop_signal).unwrap_or(libc::SIGTERM),
                    no_new_privs: spec.no_new_privs,
                });
                self.health = spec.health.as_ref().map(|health| Health::new(health, &spec.main, now));
                self.execs.insert(exec);
            }
            Err(error) => {
                let command = spec.main.argv.first().map_or("", String::as_str);
                terminal::say(&format!("can't run `{command}`: {error}"));
                if let Some(id) = asked {
                    self.refuse_command(id, MAIN, 0, &error);
                }
                self.main_failed(error.exit_code(), now);
            }
        }
    }

    fn spawn_main(&mut self, spec: &ReadySpec) -> Result<Exec, CommandError> {
        let files = Files::read();
        let identity = files.resolve(&spec.main.user)?;
        let env = secrets::place(&spec.secrets, &identity).map_err(io::Error::other)?;
        let number = self.execs.number();
        let extra = Extra {
            env,
            mark: number,
            no_new_privs: spec.no_new_privs,
            create_cwd: true,
            stdio: Stdio::Inherited { terminal: spec.tty },
            files: &files,
        };
        let command = build(&spec.main, extra)?;
        let terms = Terms {
            number,
            id: MAIN.to_owned(),
            spec: String::new(),
            ring: 0,
            lossy: false,
        };
        let mut exec = Exec::new(terms, Pipes::default())?;
        exec.stages = Stages::new([spawn(&command, self.procs()?)?]);
        Ok(exec)
    }

    pub(super) fn main_started(&mut self) {
        if let Err(error) = ready::write(self.gifts.start) {
            terminal::say(&format!("can't write /var/run/clawker/ready: {error}"));
        }
    }
}
