//! Carrying out one effect of a step on the session. What goes wrong inside the container is a result that the step
//! sees; only a lost session is an error.

use clawker_model::plan::WriteWhen;
use clawker_model::{AgentSpec, Effect, EffectResult};
use clawker_wire::session::{
    self as proto, Exec, IoFrame, OnFull, Open, ReadFile, Stage, Stream, WriteFile, command, io_frame, response,
};

use super::AgentError;
use super::session::{ExecHandle, Session, SessionError};

/// Most bytes kept of each of an exec's streams: its end.
const KEPT: usize = 64 * 1024;

/// An effect's result, and the exec that PID 1 may forget once the result is synced.
pub struct Performed {
    pub result: EffectResult,
    pub exec: Option<ExecHandle>,
}

/// Carries out `effect`; `exec_id` is the same on every try.
pub async fn perform(
    spec: &AgentSpec,
    session: &Session,
    exec_id: &str,
    effect: &Effect,
) -> Result<Performed, AgentError> {
    let outcome = match effect {
        Effect::Exec {
            argv,
            env,
            cwd,
            user,
            timeout_s,
        } => {
            let mut all = spec.main.env.clone();
            all.extend(env.iter().cloned());
            let exec = Exec {
                exec_id: exec_id.to_owned(),
                stages: vec![Stage {
                    argv: argv.clone(),
                    user: user.clone().unwrap_or_else(|| spec.main.user.clone()),
                    env: all,
                    cwd: cwd.clone().unwrap_or_else(|| spec.main.cwd.clone()),
                }],
                timeout: *timeout_s,
                on_full: OnFull::Block.into(),
                stdin: false,
                tty: None,
            };
            run(session, exec).await
        }
        Effect::WriteFile {
            path,
            mode,
            owner,
            when,
            content,
        } => {
            let when = match when {
                WriteWhen::Always => proto::WriteWhen::Always,
                WriteWhen::IfAbsent => proto::WriteWhen::IfAbsent,
                WriteWhen::IfChanged => proto::WriteWhen::IfChanged,
            };
            let write = WriteFile {
                path: path.clone(),
                mode: *mode,
                owner: owner.clone().unwrap_or_else(|| spec.main.user.clone()),
                when: when.into(),
                content: content.clone().into(),
            };
            match session.call("WriteFile", command::Body::WriteFile(write)).await {
                Ok(response::Body::FileWritten(done)) => Ok(plain(EffectResult::WriteFile { written: done.written })),
                Ok(_) => Err(SessionError::Confused { what: "WriteFile" }),
                Err(error) => Err(error),
            }
        }
        Effect::ReadFile { path, max } => {
            let read = ReadFile {
                path: path.clone(),
                max: *max,
            };
            match session.call("ReadFile", command::Body::ReadFile(read)).await {
                Ok(response::Body::FileContent(file)) => Ok(plain(EffectResult::ReadFile {
                    content: file.content.to_vec(),
                })),
                Ok(_) => Err(SessionError::Confused { what: "ReadFile" }),
                Err(error) => Err(error),
            }
        }
    };
    match outcome {
        Ok(performed) => Ok(performed),
        Err(SessionError::Refused { code, message, .. }) => Ok(plain(EffectResult::Failed { code, message })),
        Err(SessionError::ExecFailed { kind, message, .. }) => Ok(plain(EffectResult::Failed { code: kind, message })),
        Err(error) => Err(error.into()),
    }
}

fn plain(result: EffectResult) -> Performed {
    Performed { result, exec: None }
}

async fn run(session: &Session, exec: Exec) -> Result<Performed, SessionError> {
    let exec_id = exec.exec_id.clone();
    let handle = session.exec(exec).await?;
    let open = Open {
        exec_id,
        stdout_from: 0,
        stderr_from: 0,
    };
    let (frames, mut incoming, _) = handle.io(open).await?;
    let lost = |status: tonic::Status| SessionError::Lost(status.message().to_owned());
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    // The peer keeps Io open for what we may still say, so the ends of both streams are its end.
    let mut open = 2;
    while open > 0
        && let Some(frame) = incoming.message().await.map_err(lost)?
    {
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
            &mut stderr
        } else {
            &mut stdout
        };
        keep_end(kept, &data.bytes);
        let offset = data.offset + data.bytes.len() as u64;
        let ack = io_frame::Body::Ack(proto::Ack {
            stream: stream.into(),
            offset,
        });
        if frames.send(IoFrame { body: Some(ack) }).await.is_err() {
            break;
        }
    }
    let exited = handle.exited().await?;
    handle.drained().await?;
    let code = if exited.signal == 0 {
        exited.code
    } else {
        128 + exited.signal
    };
    Ok(Performed {
        result: EffectResult::Exec { code, stdout, stderr },
        exec: Some(handle),
    })
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
