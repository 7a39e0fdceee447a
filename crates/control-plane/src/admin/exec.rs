//! An operator's exec: started at most once for its id, its streams relayed until it has ended, over any loss of a
//! session, of the client, or of the control plane.
//!
//! ```text
//!  journaled? ─no──▶ ExecStarted ─▶ PID 1 starts it ─┐
//!      │ yes                                         ├─▶ relay ─┬─▶ all with the client ─▶ ExecExited synced ─▶ Exit
//!      ├─ PID 1 knows it ────────────────────────────┘    ▲     │                          ─▶ acknowledged
//!      ├─ ExecExited ─▶ Exit                              │     ├─▶ session lost ─▶ the next one, same offsets
//!      └─ neither: gone with a start of the agent         │     ├─▶ somebody else asks for it: theirs
//!                                                         │     └─▶ client gone ─▶ hung up, or kept ─┐
//!                                                         └────────── asked for again ◀──────────────┘
//! ```

use std::sync::Arc;

use clawker_model::event::{ExecExited, ExecStarted};
use clawker_model::{FullName, exit};
use clawker_store::ExecRecord;
use clawker_wire::admin::{ExecInput, ExecOutput, ExecStart, Exit, exec_input, exec_output};
use clawker_wire::session::{self as proto};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::error::Fault;
use super::exec_relay::{Relay, Terms, When};
use super::exec_spec::spec;
use super::resolve::{Found, resolve};
use super::socket::Peer;
use crate::agent::{AgentHandle, ExecHandle, Session, SessionError, SessionState, Trust};
use crate::core::Core;
use crate::execs::{self, Attended, note_exit};

/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(10);
/// How long a new session may take to come.
const RECONNECT: Duration = Duration::from_secs(60);

pub type Output = ReceiverStream<Result<ExecOutput, Status>>;

/// Starts the exec that the first message asks for, or goes on with it. A call that is given up meanwhile leaves nothing
/// half done: all that follows the first message is a task of its own.
pub async fn exec(core: Arc<Core>, peer: Peer, mut input: Streaming<ExecInput>) -> Result<Output, Fault> {
    let start = match tokio::time::timeout(FIRST, input.message()).await {
        Ok(Ok(Some(ExecInput {
            body: Some(exec_input::Body::Start(start)),
        }))) => start,
        _ => {
            return Err(Fault::usage(
                "an exec begins with what is to be executed",
                "this is a fault of the client",
            ));
        }
    };
    let (out, output) = mpsc::channel(16);
    let tasks = core.tasks.clone();
    let serving = tasks.spawn(serve(core, peer, start, input, out));
    let served = serving.await.map_err(|error| Fault::internal(error.to_string()))?;
    served.map(|()| ReceiverStream::new(output))
}

/// Returns once the exec runs, or has ended; relaying goes on.
async fn serve(
    core: Arc<Core>,
    peer: Peer,
    start: ExecStart,
    input: Streaming<ExecInput>,
    out: mpsc::Sender<Result<ExecOutput, Status>>,
) -> Result<(), Fault> {
    let found = resolve(&core, &start.agent).await?;
    found.made()?;
    let record = found.own()?;
    let main = &record.spec.main;
    let spec = spec(&start, &main.user, &main.env, &main.cwd)?;
    let agent = found.handle.clone().ok_or_else(|| no_session(&found))?;

    let place = core.execs.attend(&found.name, &spec.exec_id).await;
    let known = match start.exec_id.is_empty() {
        // Just made up.
        true => None,
        false => core.store.exec(&found.name, record.created_ms, &spec.exec_id).await?,
    };
    let begun = match known {
        None => {
            let session = agent.session().ok_or_else(|| no_session(&found))?;
            let started = ExecStarted {
                exec: spec.exec_id.clone(),
                argv: start.argv.clone(),
                by: peer.operator(),
                init_life: session.init_life(),
            };
            core.store.append(Some(&found.name), started).await?;
            begin(&core, &found.name, &agent, session, &spec, &start.argv).await?
        }
        Some(known) if known.argv != start.argv => {
            return Err(Fault::new(
                Code::AlreadyExists,
                exit::CANT_CREATE,
                format!("another command has the id `{}` in `{}`", spec.exec_id, found.name),
                "one id is one command: choose another",
            ));
        }
        Some(known) => go_on(&core, &agent, &spec, known, &found).await?,
    };
    let _ = out.try_send(says(exec_output::Body::Started(spec.exec_id.clone())));
    match begun {
        Begun::Ended(exited) => {
            let _ = out.try_send(says(exec_output::Body::Exit(exit_of(&exited))));
        }
        Begun::Running { handle, noted } => {
            let terms = Terms {
                from: [start.stdout_from, start.stderr_from],
                acknowledges: start.acknowledges,
                when_left: start.when_left(),
            };
            let relay = Relay::new(core.clone(), agent.clone(), spec, out.clone(), terms, place.over());
            let tasks = core.tasks.clone();
            let whose = Attended {
                core,
                name: found.name,
                agent,
                place,
                noted,
            };
            tasks.spawn(follow(whose, relay, handle, input, out));
        }
    }
    Ok(())
}

/// Relays to the end, journals it, and lets PID 1 forget the exec.
async fn follow(
    whose: Attended,
    relay: Relay,
    handle: ExecHandle,
    input: Streaming<ExecInput>,
    out: mpsc::Sender<Result<ExecOutput, Status>>,
) {
    match relay.run(handle, input).await {
        Ok((When::Ended(exit), exec)) => {
            let noted = whose.noted || note_exit(&whose.core, &whose.name, &exec.id, &exit).await;
            // The operator may be gone; the exit is journaled.
            let _ = out.send(says(exec_output::Body::Exit(exit))).await;
            // PID 1 keeps what couldn't be journaled. A session lost right now finds the exit again, and
            // forgets it with the container.
            if noted && let Err(error) = exec.ack().await {
                tracing::debug!(%error, "acknowledging an exec");
            }
        }
        Ok((When::Left, exec)) => {
            drop(out);
            execs::keep(whose, exec).await;
        }
        Ok((When::Taken, exec)) => {
            let fault = Fault::state(
                format!("somebody else goes on with `{}`", exec.id),
                "one at a time has an exec's streams, and the newest has them",
            );
            let _ = out.send(Err(fault.into())).await;
        }
        Err(fault) => {
            let _ = out.send(Err(fault.into())).await;
        }
    }
}

/// How far it is, and whether its exit is journaled.
enum Begun {
    Running {
        handle: ExecHandle,
        noted: bool,
    },
    /// And PID 1 has forgotten it.
    Ended(ExecExited),
}

/// The first start. A session that is lost meanwhile may have started it or not: the next one of the same PID 1 is asked
/// again, which starts nothing twice.
async fn begin(
    core: &Core,
    name: &FullName,
    agent: &AgentHandle,
    session: Session,
    spec: &proto::Exec,
    argv: &[String],
) -> Result<Begun, Fault> {
    let mut started = session.exec(spec.clone()).await;
    if let Err(SessionError::Lost(_) | SessionError::Silent { .. }) = started {
        started = attach(agent, spec, &session.init_life()).await;
    }
    match started {
        Ok(handle) => Ok(Begun::Running { handle, noted: false }),
        Err(error) => {
            if let SessionError::ExecFailed { .. } = &error {
                let code = Fault::from(error.clone()).exit.into();
                let exit = Exit {
                    code,
                    signal: 0,
                    oom: false,
                };
                note_exit(core, name, &spec.exec_id, &exit).await;
            }
            Err(refused(error, argv, name))
        }
    }
}

/// The exec on the next session of the PID 1 that runs it: of another it would be another exec.
pub(super) async fn attach(agent: &AgentHandle, spec: &proto::Exec, life: &str) -> Result<ExecHandle, SessionError> {
    let gone = || SessionError::Lost("the agent has ended".to_owned());
    let attaching = async {
        loop {
            let session = agent.until_session().await.ok_or_else(gone)?;
            if session.init_life() != life {
                return Err(gone());
            }
            match session.exec(spec.clone()).await {
                Err(SessionError::Lost(_) | SessionError::Silent { .. }) => {}
                attached => return attached,
            }
        }
    };
    let none = || SessionError::Lost(format!("no other came for {} s", RECONNECT.as_secs()));
    tokio::time::timeout(RECONNECT, attaching).await.map_err(|_| none())?
}

/// An exec that was asked for before: with PID 1, or, where that has forgotten it, in the journal.
async fn go_on(
    core: &Core,
    agent: &AgentHandle,
    spec: &proto::Exec,
    known: ExecRecord,
    found: &Found,
) -> Result<Begun, Fault> {
    let name = &found.name;
    let session = tokio::time::timeout(RECONNECT, agent.until_session()).await;
    // Agents are left when the control plane ends: that says nothing of theirs.
    let stopping = || core.shutdown.is_cancelled();
    if stopping() {
        return Err(Fault::stopping());
    }
    let session = match (session, known.exited) {
        (Ok(Some(session)), exited) if session.knows(&spec.exec_id) => {
            let attached = attach(agent, spec, &session.init_life()).await;
            let handle = attached.map_err(|error| match stopping() {
                true => Fault::stopping(),
                false => refused(error, &known.argv, name),
            })?;
            let noted = exited.is_some();
            return Ok(Begun::Running { handle, noted });
        }
        (_, Some(exited)) => return Ok(Begun::Ended(exited)),
        (Err(_), None) => return Err(no_session(found)),
        (Ok(session), None) => session,
    };
    match session.filter(|session| session.init_life() == known.init_life) {
        // PID 1 forgets only what is journaled: it was never asked, because the control plane died before.
        Some(session) => begin(core, name, agent, session, spec, &known.argv).await,
        None => Err(Fault::new(
            Code::FailedPrecondition,
            exit::NOT_STARTED,
            format!(
                "the exec `{}` is gone: `{name}` has ended or was started again since",
                spec.exec_id
            ),
            "nothing is started twice under one id: choose another",
        )),
    }
}

/// Why there is no session to run anything on.
fn no_session(found: &Found) -> Fault {
    let name = &found.name;
    let Some(status) = found.handle.as_ref().map(AgentHandle::status) else {
        return Fault::state(format!("nobody looks after `{name}`"), "see `clawker status`");
    };
    match (status.init_pid, status.trust, status.session) {
        (0, ..) => Fault::state(
            format!("`{name}` doesn't run"),
            format!("start it with `clawker start {name}`"),
        ),
        (_, Trust::Untrusted(reason), _) => Fault::new(
            Code::PermissionDenied,
            exit::NOT_PERMITTED,
            format!("`{name}` isn't trusted ({reason}); nothing is run in it"),
            format!("see `clawker why {name}`"),
        ),
        (.., SessionState::None | SessionState::Connecting) | (_, Trust::Unknown, _) => Fault::state(
            format!("`{name}` has no session yet"),
            "try again in a moment; see `clawker ps`",
        ),
        (_, Trust::Trusted, SessionState::Connected) => {
            Fault::state(format!("the session of `{name}` is being renewed"), "try again")
        }
    }
}

/// Names the command, which the session knows only by the exec's id.
fn refused(error: SessionError, argv: &[String], agent: &FullName) -> Fault {
    let said = match &error {
        SessionError::ExecFailed { message, .. } => Some(message.clone()),
        _ => None,
    };
    let mut fault = Fault::from(error);
    if let Some(said) = said {
        let command: String = argv
            .first()
            .map(|arg| arg.chars().take(80).collect())
            .unwrap_or_default();
        fault.message = format!("`{command}` can't be executed in `{agent}`: {said}");
    }
    fault
}

fn says(body: exec_output::Body) -> Result<ExecOutput, Status> {
    Ok(ExecOutput { body: Some(body) })
}

fn exit_of(exited: &ExecExited) -> Exit {
    Exit {
        code: exited.code,
        signal: exited.signal.unwrap_or_default(),
        oom: exited.oom,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_cannot_be_executed_is_named() {
        let error = SessionError::ExecFailed {
            exec_id: "operator/x".into(),
            kind: "not_found".into(),
            errno: 2,
            message: "no such file".into(),
        };
        let name = FullName::parse("clawker.a").expect("name");
        let fault = refused(error, &["nope".into()], &name);
        assert_eq!(
            (fault.exit, fault.message.as_str()),
            (127, "`nope` can't be executed in `clawker.a`: no such file")
        );
    }
}
