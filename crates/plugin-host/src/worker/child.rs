//! What runs in a worker: loads the code that it is given and answers calls, each channel on a thread of its own.
//!
//! The order matters: the engine opens what it needs to reset memory fast, the threads are made, then the process gives
//! everything up (`sandbox`), and only then it sees the first byte of a plugin.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::sync::{Arc, PoisonError, RwLock};

use clawker_proc::fdpass::MAX_FDS;

use super::channel::{self, MAX_COMMAND, MAX_MESSAGE, receive_with};
use super::proto::{self, Begin, NotLoaded, Reply, Request};
use super::{COMPILER, WORKER, compile, sandbox};
use crate::bindings::policy::clawker::plugin::types;
use crate::plugin::Code;
use crate::{Host, Kind, Limits, Unavailable};

/// Bytes of compiled code.
const MAX_CODE: usize = MAX_MESSAGE;

type Codes = RwLock<HashMap<u64, Arc<(Code, Limits)>>>;
type Prepared = (Arc<Host>, Arc<Codes>, Vec<String>);

/// Runs as a child if this process was started as one, to its end. A program calls it before anything else.
pub fn run() -> Option<ExitCode> {
    let first = std::env::args_os().nth(1)?;
    let run: fn(UnixStream) -> Result<(), Box<dyn std::error::Error>> = match first.to_str()? {
        WORKER => serve,
        COMPILER => compile::serve,
        _ => return None,
    };
    let alone = clawker_proc::confine::close_inherited();
    let socket = match alone.and_then(|()| io::stdin().as_fd().try_clone_to_owned()) {
        Ok(fd) => UnixStream::from(fd),
        Err(_) => return Some(ExitCode::FAILURE),
    };
    // Nobody reads what it prints: a reason is in an answer.
    Some(match run(socket) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    })
}

fn serve(control: UnixStream) -> Result<(), Box<dyn std::error::Error>> {
    let Some((begin, channels)) = receive_with(&control, MAX_COMMAND, MAX_FDS)? else {
        return Ok(());
    };
    let (host, codes, without) = match prepare(&begin, channels) {
        Ok(prepared) => prepared,
        Err(error) => {
            let why = error.to_string();
            return Ok(channel::send(&control, &Reply::NotReady { why })?);
        }
    };
    channel::send(&control, &Reply::Ready { without })?;
    while let Some((request, fds)) = receive_with(&control, MAX_COMMAND, 1)? {
        let reply = command(&host, &codes, request, fds).ok_or("not a command")?;
        channel::send(&control, &reply)?;
    }
    Ok(())
}

/// The engine, the threads, and then no rights any more, but for those that couldn't be given up.
fn prepare(begin: &Begin, channels: Vec<OwnedFd>) -> Result<Prepared, Box<dyn std::error::Error>> {
    if channels.len() != begin.channels as usize {
        return Err("a channel is missing".into());
    }
    let mut without = sandbox::leave_network();
    let host = Arc::new(Host::new(HashSet::new())?);
    let codes = Arc::new(Codes::default());
    for (n, channel) in channels.into_iter().enumerate() {
        let (host, codes) = (host.clone(), codes.clone());
        std::thread::Builder::new()
            .name(format!("channel-{n}"))
            .spawn(move || {
                // Its end closes the channel, which the control plane takes for the worker's end; unless it is that of
                // the control plane.
                let _ = answer_all(&UnixStream::from(channel), &host, &codes);
            })?;
    }
    without.extend(sandbox::confine(sandbox::For::Calls)?);
    Ok((host, codes, without))
}

fn command(host: &Host, codes: &Codes, request: Request, fds: Vec<OwnedFd>) -> Option<Reply> {
    match request {
        Request::Load { handle, kind, limits } => {
            let loaded = revive(host, kind, limits, &fds);
            Some(Reply::Loaded(loaded.map(|(said, code)| {
                let mut codes = codes.write().unwrap_or_else(PoisonError::into_inner);
                codes.insert(handle, Arc::new((code, limits)));
                said
            })))
        }
        Request::Unload { handle } => {
            codes.write().unwrap_or_else(PoisonError::into_inner).remove(&handle);
            Some(Reply::Unloaded)
        }
        Request::Evaluate { .. } | Request::Step { .. } => None,
    }
}

fn revive(host: &Host, kind: Kind, limits: Limits, fds: &[OwnedFd]) -> Result<(types::Description, Code), NotLoaded> {
    let fd = fds.first().ok_or_else(|| NotLoaded::Code("no code came".into()))?;
    let code = clawker_proc::memfd::read_sealed(fd.as_fd(), MAX_CODE);
    let code = code.map_err(|error| NotLoaded::Code(error.to_string()))?;
    let code = host.revive(kind, &code);
    let code = code.map_err(|error| NotLoaded::Code(format!("{error:#}")))?;
    let (said, _) = host.describe(&code, &limits);
    Ok((said.map_err(NotLoaded::Describe)?, code))
}

fn answer_all(channel: &UnixStream, host: &Host, codes: &Codes) -> io::Result<()> {
    while let Some(request) = channel::receive(channel, MAX_MESSAGE)? {
        let held = |handle: u64| {
            let codes = codes.read().unwrap_or_else(PoisonError::into_inner);
            codes.get(&handle).cloned().ok_or(Unavailable::Missing)
        };
        let reply = match request {
            Request::Evaluate { call, handle, question } => {
                let proto::Evaluate {
                    settings,
                    event,
                    facts,
                    state,
                } = question;
                let (decision, lines) = match held(handle) {
                    Ok(held) => host.decide(&held.0, &held.1, settings, &event, &facts, &state),
                    Err(missing) => (Err(missing), Vec::new()),
                };
                Reply::Decided { call, decision, lines }
            }
            Request::Step { call, handle, question } => {
                let proto::Step {
                    settings,
                    secrets,
                    context,
                    history,
                } = question;
                let history = Arc::new(history.into_iter().map(proto::result).collect());
                let (turn, lines) = match held(handle) {
                    Ok(held) => host.take_turn(&held.0, &held.1, settings, secrets, &context, history),
                    Err(missing) => (Err(missing), Vec::new()),
                };
                let turn = turn.unwrap_or_else(crate::StepTurn::Unavailable);
                let turn = serde_json::to_string(&turn).map_err(io::Error::other)?;
                Reply::Turned { call, turn, lines }
            }
            Request::Load { .. } | Request::Unload { .. } => return Err(io::ErrorKind::InvalidData.into()),
        };
        channel::send(channel, &reply)?;
    }
    Ok(())
}
