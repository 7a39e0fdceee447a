//! Carrying out one effect of a step on the session. What goes wrong inside the container is a result that the step
//! sees; only a lost session is an error.
//!
//! Secrets are put in here, on the way to clawkerd, and taken out of what comes back.

use clawker_model::plan::WriteWhen;
use clawker_model::{AgentSpec, Effect, EffectResult, Piece};
use clawker_wire::MAX_DATA;
use clawker_wire::session::{
    self as proto, AckExit, Exec, Exited, IoFrame, OnFull, Open, ReadFile, Stage, StdinEof, Stream, WriteFile, command,
    io_frame, response,
};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use zeroize::Zeroizing;

use super::AgentError;
use super::plan::Secrets;
use super::session::{ExecHandle, Session, SessionError};

/// Most bytes kept of each of an exec's streams: its end.
const KEPT: usize = 64 * 1024;
/// Most bytes of a file or of standard input, secrets included.
const MAX_CONTENT: usize = 2 * 1024 * 1024;
/// How long clawkerd may take for a file: it may lie on a share that is slow to answer.
const FILE: Duration = Duration::from_secs(30);
/// How long an exec may take to be gone after its kill.
const AFTER_KILL: Duration = Duration::from_secs(10);
const SIGKILL: u32 = 9;

/// An effect's result, and the exec that PID 1 may forget once the result is synced.
pub struct Performed {
    pub result: EffectResult,
    pub exec: Option<ExecHandle>,
}

/// On whose behalf effects are carried out, and where.
pub struct Performer<'a> {
    pub spec: &'a AgentSpec,
    pub session: &'a Session,
    /// All of the agent's: what a step may put in is checked before, what comes back must hold none.
    pub secrets: Secrets,
}

impl Performer<'_> {
    /// Carries out `effect`; `exec_id` is the same on every try. At `deadline` an exec is killed.
    pub async fn perform(&self, exec_id: &str, effect: &Effect, deadline: Instant) -> Result<Performed, AgentError> {
        let outcome = match effect {
            Effect::Exec { stdin, .. } => match self.fill(stdin) {
                Ok(input) => self.exec(exec_id, effect, input, deadline).await,
                Err(failed) => Ok(failed),
            },
            Effect::WriteFile { content, .. } => match self.fill(content) {
                Ok(content) => self.write(effect, content).await,
                Err(failed) => Ok(failed),
            },
            Effect::ReadFile { path, max, user } => self.read(path, *max, user.as_deref()).await,
        };
        match outcome {
            Ok(performed) => Ok(performed),
            Err(SessionError::Refused { code, message, .. }) => Ok(failed(&code, message)),
            Err(SessionError::ExecFailed { kind, message, .. }) => Ok(failed(&kind, message)),
            Err(
                error @ SessionError::Silent {
                    what: "WriteFile" | "ReadFile",
                },
            ) => Ok(failed("timeout", error.to_string())),
            Err(error) => Err(error.into()),
        }
    }

    /// Lets PID 1 forget an exec whose result is noted, if it still knows it.
    pub async fn forget_exec(&self, exec_id: &str) -> Result<(), AgentError> {
        let ack = AckExit {
            exec_id: exec_id.to_owned(),
        };
        match self.session.tell("AckExit", command::Body::AckExit(ack)).await {
            Ok(()) | Err(SessionError::Refused { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn fill(&self, pieces: &[Piece]) -> Result<Zeroizing<Vec<u8>>, Performed> {
        match self.secrets.fill(pieces) {
            Ok(filled) if filled.len() > MAX_CONTENT => Err(failed(
                "too_large",
                format!("{} bytes, the limit is {MAX_CONTENT}", filled.len()),
            )),
            Ok(filled) => Ok(filled),
            Err(name) => Err(failed("not_found", format!("the agent has no secret `{name}`"))),
        }
    }

    async fn write(&self, effect: &Effect, content: Zeroizing<Vec<u8>>) -> Result<Performed, SessionError> {
        let Effect::WriteFile {
            path,
            mode,
            owner,
            when,
            ..
        } = effect
        else {
            return Err(SessionError::Confused { what: "WriteFile" });
        };
        let when = match when {
            WriteWhen::Always => proto::WriteWhen::Always,
            WriteWhen::IfAbsent => proto::WriteWhen::IfAbsent,
            WriteWhen::IfChanged => proto::WriteWhen::IfChanged,
        };
        let write = WriteFile {
            path: self.at_home(path, owner.as_deref()),
            mode: *mode,
            owner: owner.clone().unwrap_or_else(|| self.spec.main.user.clone()),
            when: when.into(),
            content: content.to_vec().into(),
        };
        let body = command::Body::WriteFile(write);
        match self.session.call_within(FILE, "WriteFile", body).await? {
            response::Body::FileWritten(done) => Ok(plain(EffectResult::WriteFile { written: done.written })),
            _ => Err(SessionError::Confused { what: "WriteFile" }),
        }
    }

    async fn read(&self, path: &str, max: u32, user: Option<&str>) -> Result<Performed, SessionError> {
        let read = ReadFile {
            path: self.at_home(path, user),
            max,
            user: user.map_or_else(|| self.spec.main.user.clone(), str::to_owned),
        };
        let body = command::Body::ReadFile(read);
        match self.session.call_within(FILE, "ReadFile", body).await? {
            response::Body::FileContent(file) => Ok(match self.secrets.inside(&file.content) {
                // A step may put a secret somewhere, and never look at it.
                Some(name) => failed("denied", format!("{path} holds secret `{name}`")),
                None => plain(EffectResult::ReadFile {
                    content: file.content.to_vec(),
                }),
            }),
            _ => Err(SessionError::Confused { what: "ReadFile" }),
        }
    }

    /// `~` of the image's user is HOME where the command's environment sets it, so that a step and the command mean
    /// the same folder. Otherwise PID 1 looks it up in the image's own user files.
    fn at_home(&self, path: &str, user: Option<&str>) -> String {
        let home = self
            .spec
            .main
            .env
            .iter()
            .rev()
            .find_map(|entry| entry.strip_prefix("HOME="));
        match (path.strip_prefix("~/"), user, home) {
            (Some(rest), None, Some(home)) if home.starts_with('/') => {
                format!("{}/{rest}", home.trim_end_matches('/'))
            }
            _ => path.to_owned(),
        }
    }

    async fn exec(
        &self,
        exec_id: &str,
        effect: &Effect,
        input: Zeroizing<Vec<u8>>,
        deadline: Instant,
    ) -> Result<Performed, SessionError> {
        let Effect::Exec {
            argv,
            env,
            cwd,
            user,
            timeout_s,
            stdin,
        } = effect
        else {
            return Err(SessionError::Confused { what: "Exec" });
        };
        let main = &self.spec.main;
        let exec = Exec {
            exec_id: exec_id.to_owned(),
            stages: vec![Stage {
                argv: argv.clone(),
                user: user.clone().unwrap_or_else(|| main.user.clone()),
                env: main.env.iter().chain(env).cloned().collect(),
                cwd: cwd.clone().unwrap_or_else(|| main.cwd.clone()),
            }],
            timeout: *timeout_s,
            on_full: OnFull::Block.into(),
            stdin: !stdin.is_empty(),
            tty: None,
            // The plan goes on in another session, or after a restart.
            on_disconnect: None,
        };
        let (handle, streams, exited) = run(self.session, exec, &input, deadline).await?;
        let stderr = self.secrets.redact(streams.stderr);
        let result = match &exited {
            Some(exited) if !exited.timed_out && !streams.killed => EffectResult::Exec {
                code: match exited.signal {
                    0 => exited.code,
                    signal => 128 + signal,
                },
                stdout: self.secrets.redact(streams.stdout),
                stderr,
            },
            _ => {
                let end = super::plan::end_of(&stderr);
                let message = if streams.killed {
                    format!("killed at the end of the step's time{end}")
                } else {
                    format!("not done after {timeout_s} s{end}")
                };
                EffectResult::Failed {
                    code: "timeout".into(),
                    message,
                }
            }
        };
        Ok(Performed {
            result,
            exec: exited.is_some().then_some(handle),
        })
    }
}

fn plain(result: EffectResult) -> Performed {
    Performed { result, exec: None }
}

fn failed(code: &str, message: String) -> Performed {
    plain(EffectResult::Failed {
        code: code.to_owned(),
        message,
    })
}

/// The ends of an exec's streams.
#[derive(Default)]
struct Streams {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    /// It was still running at the deadline.
    killed: bool,
}

/// `None` for its exit: it outlived its kill.
async fn run(
    session: &Session,
    exec: Exec,
    input: &[u8],
    deadline: Instant,
) -> Result<(ExecHandle, Streams, Option<Exited>), SessionError> {
    let exec_id = exec.exec_id.clone();
    let has_input = exec.stdin;
    let handle = session.exec(exec).await?;
    let open = Open {
        exec_id: exec_id.clone(),
        stdout_from: 0,
        stderr_from: 0,
    };
    let (frames, incoming, opened) = handle.io(open).await?;
    let feeding = async {
        if has_input {
            let taken = usize::try_from(opened.stdin_taken).unwrap_or(usize::MAX);
            feed(&frames, input, taken).await;
        }
        Ok::<(), SessionError>(())
    };
    // Whoever goes on with this plan after us finds the whole of what is kept.
    let unacknowledged = if opened.ring >= 2 * KEPT as u64 { KEPT as u64 } else { 0 };
    let reading = read(session, &exec_id, &frames, incoming, unacknowledged, deadline);
    let ((), streams) = tokio::try_join!(feeding, reading)?;
    if streams.killed {
        let ended = async { Ok::<_, SessionError>((handle.exited().await?, handle.drained().await?)) };
        return match tokio::time::timeout(AFTER_KILL, ended).await {
            Ok(ended) => ended.map(|(exited, _)| (handle, streams, Some(exited))),
            Err(_) => Ok((handle, streams, None)),
        };
    }
    let exited = handle.exited().await?;
    handle.drained().await?;
    Ok((handle, streams, Some(exited)))
}

/// Standard input from where PID 1 has it. A peer that is gone is noticed by the reading.
async fn feed(frames: &mpsc::Sender<IoFrame>, input: &[u8], taken: usize) {
    let mut offset = taken.min(input.len());
    while offset < input.len() {
        let end = input.len().min(offset + MAX_DATA);
        let data = proto::Data {
            stream: Stream::Stdin.into(),
            offset: offset as u64,
            bytes: input[offset..end].to_vec().into(),
        };
        let body = Some(io_frame::Body::Data(data));
        if frames.send(IoFrame { body }).await.is_err() {
            return;
        }
        offset = end;
    }
    let body = Some(io_frame::Body::StdinEof(StdinEof {}));
    let _ = frames.send(IoFrame { body }).await;
}

/// Both streams to their ends. At the deadline the exec is killed, and reading goes on: what isn't read would hold
/// its end back.
async fn read(
    session: &Session,
    exec_id: &str,
    frames: &mpsc::Sender<IoFrame>,
    mut incoming: tonic::Streaming<IoFrame>,
    unacknowledged: u64,
    deadline: Instant,
) -> Result<Streams, SessionError> {
    let mut streams = Streams::default();
    // The peer keeps Io open for what we may still say, so the ends of both streams are its end.
    let mut open = 2;
    while open > 0 {
        let until = if streams.killed {
            deadline + AFTER_KILL
        } else {
            deadline
        };
        let frame = tokio::select! {
            frame = incoming.message() => match frame {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(status) => return Err(SessionError::Lost(status.message().to_owned())),
            },
            () = tokio::time::sleep_until(until) => {
                if streams.killed {
                    break;
                }
                streams.killed = true;
                match session.signal(exec_id, SIGKILL).await {
                    Ok(_) | Err(SessionError::Refused { .. }) => continue,
                    Err(error) => return Err(error),
                }
            }
        };
        let data = match frame.body {
            Some(io_frame::Body::Data(data)) => data,
            Some(io_frame::Body::StreamEof(_)) => {
                open -= 1;
                continue;
            }
            _ => continue,
        };
        let stream = data.stream();
        let kept = if stream == Stream::Stderr {
            &mut streams.stderr
        } else {
            &mut streams.stdout
        };
        keep_end(kept, &data.bytes);
        let ack = io_frame::Body::Ack(proto::Ack {
            stream: stream.into(),
            offset: (data.offset + data.bytes.len() as u64).saturating_sub(unacknowledged),
        });
        if frames.send(IoFrame { body: Some(ack) }).await.is_err() {
            break;
        }
    }
    Ok(streams)
}

fn keep_end(kept: &mut Vec<u8>, bytes: &[u8]) {
    kept.extend_from_slice(bytes);
    if kept.len() > KEPT {
        kept.drain(..kept.len() - KEPT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_output_is_what_is_kept() {
        let mut kept = vec![b'a'; KEPT];
        keep_end(&mut kept, b"end");
        assert_eq!((kept.len(), kept.ends_with(b"aend")), (KEPT, true));
        keep_end(&mut kept, &[b'b'; 2 * KEPT]);
        assert_eq!(kept, [b'b'; KEPT]);
    }
}
