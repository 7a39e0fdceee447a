//! What an operator is told when something can't be done: gRPC code, exit code, message, next step.

use clawker_docker::Error as DockerError;
use clawker_model::{NameError, exit};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Code, Status};

use crate::agent::session::SessionError;

/// Metadata key of the exit code for the command line.
const EXIT: &str = "clawker-exit";
/// Metadata key of the next step for a person.
const HINT: &str = "clawker-hint";

/// Most bytes of a message and of a hint: both travel in headers.
const MAX_TEXT: usize = 2048;

/// A refusal or failure, as an operator sees it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    pub code: Code,
    /// Of `model::exit`.
    pub exit: u8,
    pub message: String,
    pub hint: String,
}

impl Fault {
    pub fn new(code: Code, exit: u8, message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            code,
            exit,
            message: message.into(),
            hint: hint.into(),
        }
    }

    /// The request itself is wrong.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::InvalidArgument, exit::USAGE, message, hint)
    }

    /// A named thing doesn't exist.
    pub fn missing(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::NotFound, exit::NO_INPUT, message, hint)
    }

    /// The thing is there, but not in a state for this.
    pub fn state(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(Code::FailedPrecondition, exit::FAILED, message, hint)
    }

    /// Something of ours failed.
    pub fn internal(message: impl Into<String>) -> Self {
        Self::new(
            Code::Internal,
            exit::FAILED,
            message,
            "see `clawker status` and the control plane's log",
        )
    }

    /// The control plane is about to end.
    pub fn stopping() -> Self {
        Self::new(
            Code::Unavailable,
            exit::NO_CONTROL_PLANE,
            "the control plane is stopping",
            "the agents go on as it was told; start it again with `clawker up`",
        )
    }
}

impl From<Fault> for Status {
    fn from(fault: Fault) -> Self {
        let mut status = Status::new(fault.code, clip(&fault.message));
        let metadata = status.metadata_mut();
        metadata.insert(EXIT, AsciiMetadataValue::from(u32::from(fault.exit)));
        if let Ok(hint) = AsciiMetadataValue::try_from(header_text(&fault.hint)) {
            metadata.insert(HINT, hint);
        }
        status
    }
}

/// Headers hold visible ASCII alone.
fn header_text(text: &str) -> String {
    clip(text)
        .chars()
        .map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '?' })
        .collect()
}

fn clip(text: &str) -> String {
    let mut kept = String::new();
    for c in text.chars() {
        if kept.len() + c.len_utf8() > MAX_TEXT {
            break;
        }
        kept.push(c);
    }
    kept
}

impl From<DockerError> for Fault {
    fn from(error: DockerError) -> Self {
        let (code, exit) = match &error {
            DockerError::NoSuchImage { .. }
            | DockerError::PullFailed { .. }
            | DockerError::NoSuchContainer { .. }
            | DockerError::NoSuchNetwork { .. } => (Code::NotFound, exit::NO_INPUT),
            DockerError::BadImage { .. } => (Code::InvalidArgument, exit::NO_INPUT),
            DockerError::BadPrefix { .. } | DockerError::Ambiguous { .. } => (Code::InvalidArgument, exit::NO_INPUT),
            DockerError::NameInUse { .. } => (Code::AlreadyExists, exit::CANT_CREATE),
            DockerError::Spec(_) => (Code::InvalidArgument, exit::CANT_CREATE),
            DockerError::NotStarted { .. } => (Code::FailedPrecondition, exit::NOT_STARTED),
            DockerError::NotRunning { .. } | DockerError::Conflict { .. } => (Code::FailedPrecondition, exit::FAILED),
            DockerError::Absent { .. } | DockerError::NotListening { .. } | DockerError::Unsupported { .. } => {
                (Code::Unavailable, exit::UNAVAILABLE)
            }
            DockerError::Denied { .. } => (Code::PermissionDenied, exit::NOT_PERMITTED),
            DockerError::Timeout { .. } | DockerError::Transport { .. } => (Code::Unavailable, exit::FAILED),
            DockerError::Engine { .. } | DockerError::Malformed { .. } => (Code::Internal, exit::FAILED),
        };
        Fault::new(code, exit, error.to_string(), error.hint())
    }
}

impl From<clawker_store::Error> for Fault {
    fn from(error: clawker_store::Error) -> Self {
        Fault::internal(error.to_string())
    }
}

impl From<NameError> for Fault {
    fn from(error: NameError) -> Self {
        Fault::usage(
            error.to_string(),
            "a name is 1 to 24 of a-z, 0-9 and `-`, with letters or digits at its ends",
        )
    }
}

impl From<SessionError> for Fault {
    fn from(error: SessionError) -> Self {
        match &error {
            SessionError::ExecFailed { kind, .. } => {
                let exit = match kind.as_str() {
                    "not_found" => exit::NOT_FOUND,
                    "not_executable" => exit::NOT_EXECUTABLE,
                    _ => exit::NOT_STARTED,
                };
                Fault::new(
                    Code::FailedPrecondition,
                    exit,
                    error.to_string(),
                    "check the command, its user and its folder",
                )
            }
            SessionError::Lost(_) => Fault::new(
                Code::Unavailable,
                exit::FAILED,
                error.to_string(),
                "the agent may be stopping; see `clawker ps --all`",
            ),
            _ => Fault::internal(error.to_string()),
        }
    }
}

impl From<crate::agent::AgentError> for Fault {
    fn from(error: crate::agent::AgentError) -> Self {
        Fault::internal(error.to_string())
    }
}

impl From<crate::containment::ContainError> for Fault {
    fn from(error: crate::containment::ContainError) -> Self {
        Fault::new(
            Code::FailedPrecondition,
            exit::FAILED,
            error.to_string(),
            "see what is in force with `clawker ps --all`, and why with `clawker why`",
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_travels_with_exit_code_and_hint() {
        let fault = Fault::missing("no agent `ä`", "see\n`clawker ps` — all");
        let status = Status::from(fault);
        assert_eq!(status.message(), "no agent `ä`");
        assert_eq!(
            status.metadata().get(EXIT).map(AsciiMetadataValue::as_encoded_bytes),
            Some(b"66".as_ref())
        );
        let hint = status
            .metadata()
            .get(HINT)
            .and_then(|hint| hint.to_str().ok().map(str::to_owned));
        assert_eq!(hint.as_deref(), Some("see?`clawker ps` ? all"));
    }

    #[test]
    fn long_texts_fit_headers() {
        let status = Status::from(Fault::internal("ä".repeat(10_000)));
        assert!(status.message().len() <= MAX_TEXT);
    }
}
