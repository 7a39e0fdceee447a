//! From trust to a running command: the plan, AgentInitialized, AgentReady.
//!
//! AgentReady is journaled as intended before it is sent and as sent after it was answered. clawkerd spawns at
//! most once a start, so after a crash between those rows it is sent again and answered with what already runs.

use clawker_model::event::{
    AgentReadyFound, AgentReadyIntended, AgentReadySent, InitCompleted, InitFailed, InitFailure, InitStarted,
};
use clawker_model::{AgentSpec, ProcessState, SecretKind};
use clawker_store::{AgentRecord, InitProgress};
use clawker_wire::session::{AgentInitialized, AgentReady, HealthCheck, HelloAck, Main, Secret, command, response};
use tokio::time::Instant;

use super::drive::Context;
use super::plan::Secrets;
use super::session::{Session, SessionError};
use super::{AgentError, plan};
use crate::fault::fault_point;

/// Whether the command runs although no control plane let it in this start. `initialized` is said before AgentReady,
/// so whoever runs it without has made a short cut, whatever the journal says. Of a start that was taken over the
/// journal that could say it is lost; `initialized` is the word of the program that we put there.
pub fn bypassed(record: Option<&AgentRecord>, ack: &HelloAck, start: u64) -> bool {
    let let_run = record.is_some_and(|record| record.ready_start == Some(start) || record.adopted == Some(start));
    ack.command_running && !(let_run && ack.initialized)
}

/// Prepares the agent and lets its command run, from wherever an earlier session left off.
pub async fn prepare(ctx: Context, record: AgentRecord, ack: HelloAck, session: Session) -> Result<(), AgentError> {
    let mut ready = record.ready_start == Some(ctx.start);
    if !ready && ack.initialized && record.adopted == Some(ctx.start) {
        ctx.ready_found(&record.spec).await?;
        ready = true;
    }
    if ack.command_running {
        if record.sent_start != Some(ctx.start) {
            let pid = ack
                .execs
                .iter()
                .find(|exec| exec.exec_id == super::session::MAIN)
                .map_or(0, |exec| exec.pid);
            ctx.append_sent(pid).await?;
        }
        ctx.show_running();
        return Ok(());
    }
    if matches!(record.init, InitProgress::Failed { start, .. } if start == ctx.start) {
        // Said already; only a new start tries again.
        return Ok(());
    }
    ctx.runnable().await;
    if !ready && !run_plan(&ctx, &record.spec, &session).await? {
        return Ok(());
    }
    if !ready {
        session
            .tell("AgentInitialized", command::Body::AgentInitialized(AgentInitialized {}))
            .await?;
        let intended = AgentReadyIntended {
            container: ctx.container.clone(),
            start: ctx.start,
        };
        ctx.core.store.append_synced(Some(&ctx.name), intended).await?;
    }
    ctx.runnable().await;
    fault_point!("ready-journaled-unsent");
    let message = agent_ready(&ctx, &record.spec).await?;
    match session.call("AgentReady", command::Body::AgentReady(message)).await? {
        response::Body::Started(started) => {
            fault_point!("ready-sent-unjournaled");
            ctx.append_sent(started.pid).await?;
            ctx.show_running();
            Ok(())
        }
        response::Body::ExecFailed(failed) => {
            let program = record.spec.main.argv.first().map_or("", String::as_str);
            let detail = format!("{}: `{program}`: {}", failed.kind, failed.message);
            ctx.fail("agent-ready", InitFailure::StartFailed, detail).await
        }
        _ => Err(SessionError::Confused { what: "AgentReady" }.into()),
    }
}

/// Runs the plan; false if it failed and the command must not run.
async fn run_plan(ctx: &Context, spec: &AgentSpec, session: &Session) -> Result<bool, AgentError> {
    let begun = Instant::now();
    let steps = spec.plan.steps.len().try_into().unwrap_or(u32::MAX);
    let started = InitStarted {
        container: ctx.container.clone(),
        start: ctx.start,
        steps,
    };
    ctx.core.store.append(Some(&ctx.name), started).await?;
    if let Err(failed) = plan::run(ctx, spec, session).await? {
        ctx.fail(&failed.step, failed.reason, failed.detail).await?;
        return Ok(false);
    }
    ctx.status.send_modify(|status| status.plan = "done".into());
    let duration_ms = begun.elapsed().as_millis().try_into().unwrap_or(u64::MAX);
    let completed = InitCompleted {
        container: ctx.container.clone(),
        start: ctx.start,
        duration_ms,
    };
    ctx.core.store.append(Some(&ctx.name), completed).await?;
    Ok(true)
}

impl Context {
    /// Waits until nothing holds the agent's processes.
    pub async fn runnable(&self) {
        if let Some(mut view) = self.core.containment.watch(&self.name) {
            // An error means that the agent is being forgotten: then nothing is held either.
            let _ = view
                .wait_for(|view| view.asked.processes == ProcessState::Running)
                .await;
        }
    }

    /// A start that was taken over was made ready by a control plane whose journal is lost. What it ran doesn't run
    /// again, neither now nor, of what runs once, in a later start.
    async fn ready_found(&self, spec: &AgentSpec) -> Result<(), AgentError> {
        plan::taken_as_done(self, spec).await?;
        let found = AgentReadyFound {
            container: self.container.clone(),
            start: self.start,
            why: "its clawkerd says that it was initialized before the journal was lost".to_owned(),
        };
        self.core.store.append_synced(Some(&self.name), found).await?;
        Ok(())
    }

    async fn append_sent(&self, pid: u32) -> Result<(), AgentError> {
        let sent = AgentReadySent {
            container: self.container.clone(),
            start: self.start,
            pid,
        };
        self.core.store.append_synced(Some(&self.name), sent).await?;
        Ok(())
    }

    fn show_running(&self) {
        self.status.send_modify(|status| {
            status.command_running = true;
            status.plan = "done".into();
        });
    }

    async fn fail(&self, step: &str, reason: InitFailure, detail: String) -> Result<(), AgentError> {
        self.status
            .send_modify(|status| status.plan = format!("failed: {step}"));
        let failed = InitFailed {
            container: self.container.clone(),
            start: self.start,
            step: step.to_owned(),
            reason,
            detail,
        };
        self.core.store.append_synced(Some(&self.name), failed).await?;
        Ok(())
    }
}

async fn agent_ready(ctx: &Context, spec: &AgentSpec) -> Result<AgentReady, AgentError> {
    let mut wanted = spec.secrets.clone();
    wanted.retain(|secret| secret.kind != SecretKind::Step);
    let names = wanted.iter().map(|secret| secret.name.clone()).collect();
    let contents = Secrets::read(&ctx.core, &ctx.container, names).await?;
    let secrets = wanted
        .iter()
        .map(|secret| Secret {
            name: secret.name.clone(),
            as_file: secret.kind == SecretKind::File,
            content: contents.get(&secret.name).unwrap_or_default().to_vec().into(),
        })
        .collect();
    Ok(AgentReady {
        secrets,
        ..without_secrets(spec)
    })
}

/// What may stand in a container's arguments, too.
pub fn without_secrets(spec: &AgentSpec) -> AgentReady {
    let main = &spec.main;
    AgentReady {
        main: Some(Main {
            argv: main.argv.clone(),
            user: main.user.clone(),
            env: main.env.clone(),
            cwd: main.cwd.clone(),
            no_new_privs: main.no_new_privs,
            tty: main.tty,
            open_stdin: main.open_stdin,
            stop_signal: main.stop_signal.clone().unwrap_or_default(),
        }),
        health: spec.health.as_ref().map(|health| HealthCheck {
            argv: health.argv.clone(),
            interval_ms: health.interval_ms,
            timeout_ms: health.timeout_ms,
            start_period_ms: health.start_period_ms,
            retries: health.retries,
        }),
        secrets: Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use clawker_model::{FullName, RunId};

    use super::*;
    use crate::containment::tests::kernel::spec;

    fn record(ready_start: Option<u64>, adopted: Option<u64>) -> AgentRecord {
        AgentRecord {
            spec: spec(&FullName::parse("clawker.a").expect("name")),
            run: RunId::parse("abcdefghijklmnopqrstuv").expect("id"),
            container: None,
            created_ms: 0,
            start: None,
            start_pid: 0,
            generation: 0,
            issued: None,
            causes: Vec::new(),
            ready_start,
            sent_start: None,
            exit: None,
            restarts: None,
            adopted,
            init: InitProgress::NotStarted,
        }
    }

    #[test]
    fn a_command_runs_by_leave_of_a_control_plane_or_it_is_a_short_cut() {
        // ready in start, taken over in start, initialized, running, is a short cut
        let table = [
            (None, None, false, false, false),
            (None, None, true, false, false),
            (Some(2), None, true, true, false),
            (Some(2), None, false, true, true),
            (Some(1), None, true, true, true),
            (None, None, true, true, true),
            // Its journal is lost, and clawkerd says that it had leave.
            (None, Some(2), true, true, false),
            (None, Some(2), false, true, true),
            // It was taken over while it didn't run, or in an earlier start.
            (None, Some(0), true, true, true),
            (None, Some(1), true, true, true),
        ];
        for (ready, adopted, initialized, command_running, short_cut) in table {
            let ack = HelloAck {
                initialized,
                command_running,
                ..Default::default()
            };
            let record = record(ready, adopted);
            assert_eq!(
                bypassed(Some(&record), &ack, 2),
                short_cut,
                "{ready:?} {adopted:?} {ack:?}"
            );
        }
    }
}
