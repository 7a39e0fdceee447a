//! An operator's exec: started through the agent's session, its streams relayed until it has ended.
//!
//! ```text
//! ExecStarted ─▶ Started ─▶ streams both ways ─┬─▶ exit, output at its end ─▶ ExecExited synced ─▶ acknowledged
//!                   ▲                          ├─▶ session lost ─▶ the next session, from the same offsets ─┐
//!                   └──────────────────────────┼──────────────────────────────────────────────────────────┘
//!                                              └─▶ operator gone ─▶ SIGHUP, 5 s, SIGKILL
//! ```

use std::sync::Arc;

use clawker_model::event::{ExecExited, ExecStarted};
use clawker_model::{FullName, exit};
use clawker_wire::admin::{ExecInput, ExecOutput, ExecStart, Exit, exec_input, exec_output};
use clawker_wire::session::{self as proto};
use tokio::sync::mpsc;
use tokio::time::Duration;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use super::error::Fault;
use super::exec_relay::Relay;
use super::limits;
use super::resolve::{Found, resolve};
use super::socket::Peer;
use crate::agent::{Session, SessionError, SessionState, Trust};
use crate::core::{Core, random_word};

/// How long the first message may take.
const FIRST: Duration = Duration::from_secs(10);

pub type Output = ReceiverStream<Result<ExecOutput, Status>>;

/// Starts the exec that the first message asks for. Relaying goes on in a task of its own.
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
    let found = resolve(&core, &start.agent).await?;
    found.made()?;
    let record = found.own()?;
    let session = session(&found)?;
    let main = &record.spec.main;
    let spec = spec(&start, &main.user, &main.env, &main.cwd)?;

    let started = ExecStarted {
        exec: spec.exec_id.clone(),
        argv: start.argv.clone(),
        by: peer.operator(),
    };
    core.store.append(Some(&found.name), started).await?;
    let handle = match session.exec(spec.clone()).await {
        Ok(handle) => handle,
        Err(error) => {
            note_exit(&core, &found.name, &spec.exec_id, &not_started(&error)).await;
            return Err(refused(error, &start.argv, &found.name));
        }
    };
    let (out, output) = mpsc::channel(16);
    let _ = out.try_send(Ok(ExecOutput {
        body: Some(exec_output::Body::Started(spec.exec_id.clone())),
    }));
    let agent = found.handle.clone().ok_or_else(|| no_session(&found))?;
    let tasks = core.tasks.clone();
    tasks.spawn(async move {
        let relay = Relay::new(core.clone(), agent, spec.clone(), out.clone());
        match relay.run(handle, input).await {
            Ok((exit, exec)) => {
                let noted = note_exit(&core, &found.name, &spec.exec_id, &exit).await;
                let last = ExecOutput {
                    body: Some(exec_output::Body::Exit(exit)),
                };
                // The operator may be gone; the exit is journaled.
                let _ = out.send(Ok(last)).await;
                // PID 1 keeps what couldn't be journaled. A session lost right now finds the exit again, and
                // forgets it with the container.
                if noted && let Err(error) = exec.ack().await {
                    tracing::debug!(%error, "acknowledging an exec");
                }
            }
            Err(fault) => {
                let _ = out.send(Err(fault.into())).await;
            }
        }
    });
    Ok(ReceiverStream::new(output))
}

/// The session, or why there is none to run anything on.
fn session(found: &Found) -> Result<Session, Fault> {
    found
        .handle
        .as_ref()
        .and_then(crate::agent::AgentHandle::session)
        .ok_or_else(|| no_session(found))
}

fn no_session(found: &Found) -> Fault {
    let name = &found.name;
    let Some(status) = found.handle.as_ref().map(crate::agent::AgentHandle::status) else {
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

/// What clawkerd is asked to run: in the agent's user, environment and folder, as far as nothing else is said.
fn spec(start: &ExecStart, user: &str, env: &[String], cwd: &str) -> Result<proto::Exec, Fault> {
    limits::argv("command", &start.argv)?;
    limits::env(&start.env)?;
    if start.argv.iter().all(String::is_empty) {
        return Err(Fault::usage("no command was given", "`clawker exec AGENT -- COMMAND`"));
    }
    if let Some(user) = &start.user {
        limits::user(user)?;
    }
    if let Some(cwd) = &start.cwd {
        limits::cwd(cwd)?;
    }
    let word = random_word(22).map_err(|error| Fault::internal(format!("randomness: {error}")))?;
    let mut env = env.to_vec();
    if start.tty && !env.iter().any(|var| var.starts_with("TERM=")) {
        env.push("TERM=xterm".into());
    }
    // Of two values of a name the later one counts, for our own parser as for execve's readers.
    for var in &start.env {
        let name = var.split('=').next().unwrap_or_default().to_owned() + "=";
        env.retain(|known| !known.starts_with(&name));
        if var.contains('=') {
            env.push(var.clone());
        }
    }
    let size = start.size.unwrap_or(clawker_wire::admin::Resize { rows: 24, cols: 80 });
    Ok(proto::Exec {
        exec_id: format!("operator/{word}"),
        stages: vec![proto::Stage {
            argv: start.argv.clone(),
            user: start.user.clone().unwrap_or_else(|| user.to_owned()),
            env,
            cwd: start.cwd.clone().unwrap_or_else(|| cwd.to_owned()),
        }],
        timeout: 0,
        on_full: proto::OnFull::Block.into(),
        stdin: start.stdin || start.tty,
        tty: start.tty.then_some(proto::Tty {
            rows: size.rows.min(4096),
            cols: size.cols.min(4096),
        }),
        on_disconnect: None,
    })
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

fn not_started(error: &SessionError) -> Exit {
    let code = match error {
        SessionError::ExecFailed { .. } => Fault::from(error.clone()).exit,
        _ => exit::NOT_STARTED,
    };
    Exit {
        code: code.into(),
        signal: 0,
        oom: false,
    }
}

/// Whether the exit is in the journal for good.
async fn note_exit(core: &Core, agent: &FullName, exec: &str, exit: &Exit) -> bool {
    let signal = Some(exit.signal).filter(|signal| *signal != 0);
    let exited = ExecExited {
        exec: exec.to_owned(),
        code: exit.code,
        signal,
    };
    match core.store.append_synced(Some(agent), exited).await {
        Ok(_) => true,
        Err(error) => {
            core.board.degraded("journal", format!("exec {exec}: {error}")).await;
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(argv: &[&str]) -> ExecStart {
        ExecStart {
            argv: argv.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn an_exec_is_the_agents_unless_it_says_otherwise() {
        let env = ["PATH=/bin".to_owned(), "A=1".to_owned()];
        let plain = spec(&start(&["ls"]), "1000", &env, "/app").expect("plain");
        let stage = &plain.stages[0];
        assert_eq!(
            (stage.user.as_str(), stage.cwd.as_str(), stage.env.as_slice()),
            ("1000", "/app", env.as_slice())
        );
        assert!(!plain.stdin && plain.tty.is_none());
        assert!(
            clawker_model::ExecId::parse(&plain.exec_id).is_ok(),
            "{}",
            plain.exec_id
        );

        let mut own = start(&["sh"]);
        own.user = Some("root".into());
        own.cwd = Some("/".into());
        own.tty = true;
        own.env = vec!["A=2".into(), "PATH".into()];
        let own = spec(&own, "1000", &env, "/app").expect("own");
        let stage = &own.stages[0];
        assert_eq!((stage.user.as_str(), stage.cwd.as_str()), ("root", "/"));
        assert_eq!(stage.env, ["TERM=xterm", "A=2"]);
        assert!(own.stdin && own.tty.is_some());
    }

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

    #[test]
    fn what_cannot_be_run_is_refused_first() {
        let refuse = |change: fn(&mut ExecStart)| {
            let mut start = start(&["ls"]);
            change(&mut start);
            spec(&start, "", &[], "").expect_err("malformed").message
        };
        assert!(refuse(|s| s.argv = vec![]).contains("no command"));
        assert!(refuse(|s| s.argv = vec![String::new()]).contains("no command"));
        assert!(refuse(|s| s.argv = vec!["x".repeat(limits::MAX_ARGV_BYTES)]).contains("command"));
        assert!(refuse(|s| s.env = vec!["=x".into()]).contains("environment"));
        assert!(refuse(|s| s.cwd = Some("x".into())).contains("working folder"));
        assert!(refuse(|s| s.user = Some("a\nb".into())).contains("user"));
    }
}
