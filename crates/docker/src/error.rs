//! What can go wrong with Docker: what was asked for, of what, and what to do next.

use std::io;

use bollard::errors::Error as Bollard;

use crate::Endpoint;
use crate::hostconfig::SpecError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("Docker isn't there: no socket at {socket}")]
    Absent { socket: String },
    #[error("Docker isn't running: nobody listens on {socket}")]
    NotListening { socket: String },
    #[error("Docker's socket {socket} may not be used by this user")]
    Denied { socket: String },
    #[error("Docker didn't answer `{call}` within {seconds} s")]
    Timeout { call: String, seconds: u64 },
    #[error("no image `{image}` on this engine")]
    NoSuchImage { image: String },
    #[error("image `{image}` can't be pulled: {message}")]
    PullFailed { image: String, message: String },
    #[error("`{image}` is not an image reference: {why}")]
    BadImage { image: String, why: &'static str },
    #[error("no container {id}")]
    NoSuchContainer { id: String },
    #[error("no network `{network}`")]
    NoSuchNetwork { network: String },
    #[error("`{prefix}` is neither a container id nor the beginning of one")]
    BadPrefix { prefix: String },
    #[error("`{prefix}` is the beginning of {count} container ids")]
    Ambiguous { prefix: String, count: usize },
    #[error("a container named `{name}` exists already")]
    NameInUse { name: String },
    #[error("container {id} isn't running")]
    NotRunning { id: String },
    #[error("the engine could not start container {id}: {message}")]
    NotStarted { id: String, message: String },
    #[error("`{call}` conflicts with the engine's state: {message}")]
    Conflict { call: String, message: String },
    #[error("the container's options are refused: {0}")]
    Spec(#[from] SpecError),
    #[error("Docker answered `{call}` with status {status}: {message}")]
    Engine { call: String, status: u16, message: String },
    #[error("connection to Docker failed during `{call}`: {message}")]
    Transport { call: String, message: String },
    #[error("Docker's answer to `{call}` is malformed: {message}")]
    Malformed { call: String, message: String },
    #[error("{what} can't be used as the engine")]
    Unsupported { what: &'static str },
}

impl Error {
    /// The next step for a person.
    pub fn hint(&self) -> &'static str {
        match self {
            Error::Absent { .. } => "install and start Docker Engine, or run `cargo xtask setup`",
            Error::NotListening { .. } => "start dockerd (`systemctl start docker`), or run `cargo xtask setup`",
            Error::Denied { .. } => "run as root, or as a member of the group that owns the socket",
            Error::Timeout { .. } => "look at dockerd's log; the call may be tried again",
            Error::NoSuchImage { .. } => "see `docker image ls`, or `docker pull` it first",
            Error::PullFailed { .. } => "check the name and the registry, or load it with `docker load`",
            Error::BadImage { .. } => "an image is written `[registry/]name[:tag][@digest]`",
            Error::NoSuchContainer { .. } | Error::BadPrefix { .. } => "see `clawker ps --all`",
            Error::NoSuchNetwork { .. } => "see `docker network ls`, or make it with `docker network create`",
            Error::Ambiguous { .. } => "give more digits",
            Error::NameInUse { .. } => "choose another name, or remove it with `clawker rm`",
            Error::NotRunning { .. } => "start it with `clawker start`",
            Error::NotStarted { .. } => "the message is the engine's own; correct what it names and start again",
            Error::Conflict { .. } | Error::Engine { .. } => "the message is the engine's own; see dockerd's log",
            Error::Spec(spec) => spec.hint(),
            Error::Transport { .. } => "see whether dockerd still runs, then try again",
            Error::Malformed { .. } => "is this Docker Engine 20.10 or newer?",
            Error::Unsupported { .. } => "use Docker Engine, run by root on this Linux host",
        }
    }

    /// Whether the engine itself is away, rather than this call being wrong.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Error::Absent { .. }
                | Error::NotListening { .. }
                | Error::Denied { .. }
                | Error::Timeout { .. }
                | Error::Transport { .. }
        )
    }

    /// What kept us from the engine's socket.
    pub(crate) fn connecting(endpoint: &Endpoint, call: &str, source: &io::Error) -> Self {
        let socket = place(endpoint);
        match source.kind() {
            io::ErrorKind::NotFound => Error::Absent { socket },
            io::ErrorKind::ConnectionRefused => Error::NotListening { socket },
            io::ErrorKind::PermissionDenied => Error::Denied { socket },
            _ => Error::Transport {
                call: call.to_owned(),
                message: source.to_string(),
            },
        }
    }

    /// An answer with a status that isn't success, before it is known what the call was about.
    pub(crate) fn status(call: &str, status: u16, message: String) -> Self {
        let call = call.to_owned();
        let message = clip(message);
        match status {
            409 => Error::Conflict { call, message },
            _ => Error::Engine { call, status, message },
        }
    }

    pub(crate) fn from_bollard(endpoint: &Endpoint, call: &str, error: Bollard) -> Self {
        let call_name = || call.to_owned();
        match error {
            Bollard::DockerResponseServerError { status_code, message } => Error::status(call, status_code, message),
            Bollard::SocketNotFoundError(_) => Error::Absent {
                socket: place(endpoint),
            },
            Bollard::DockerStreamError { error } => Error::Engine {
                call: call_name(),
                status: 200,
                message: clip(error),
            },
            Bollard::JsonDataError { message, .. } => Error::Malformed {
                call: call_name(),
                message: clip(message),
            },
            Bollard::JsonSerdeError { err } => Error::Malformed {
                call: call_name(),
                message: clip(err.to_string()),
            },
            Bollard::APIVersionParseError {} => Error::Malformed {
                call: call_name(),
                message: "no API version".to_owned(),
            },
            other => match io_cause(&other) {
                Some(io) => Error::connecting(endpoint, call, io),
                None => Error::Transport {
                    call: call_name(),
                    message: clip(other.to_string()),
                },
            },
        }
    }
}

/// As people write it.
fn place(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Unix(path) => path.display().to_string(),
        Endpoint::Tcp(_) => endpoint.to_string(),
    }
}

/// The I/O error at the bottom of a chain of sources.
fn io_cause<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a io::Error> {
    let mut at = Some(error);
    while let Some(error) = at {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return Some(io);
        }
        at = error.source();
    }
    None
}

/// Longest message of the engine that is passed on.
const MAX_MESSAGE: usize = 2048;

fn clip(mut message: String) -> String {
    if message.len() > MAX_MESSAGE {
        let end = (0..=MAX_MESSAGE)
            .rev()
            .find(|&at| message.is_char_boundary(at))
            .unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let cut = clip("ä".repeat(4000));
        assert!(cut.len() <= MAX_MESSAGE + '…'.len_utf8(), "{}", cut.len());
        assert_eq!(clip("short".into()), "short");
    }

    #[test]
    fn socket_faults_have_their_own_kinds() {
        let socket = Endpoint::Unix("/s".into());
        let of = |kind| Error::connecting(&socket, "info", &io::Error::from(kind));
        assert!(matches!(of(io::ErrorKind::NotFound), Error::Absent { .. }));
        assert!(matches!(
            of(io::ErrorKind::ConnectionRefused),
            Error::NotListening { .. }
        ));
        assert!(matches!(of(io::ErrorKind::PermissionDenied), Error::Denied { .. }));
        assert!(matches!(of(io::ErrorKind::BrokenPipe), Error::Transport { .. }));
        assert!(of(io::ErrorKind::BrokenPipe).is_outage());
    }
}
