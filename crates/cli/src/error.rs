//! What a command that failed tells a person, and its exit code.

use std::error::Error;
use std::io;

use clawker_model::exit;
use tonic::{Code, Status};

use crate::term::Term;
use crate::text::plain;

/// What kind of failure it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Failed,
    Usage,
    NoInput,
    CantCreate,
    NoControlPlane,
    NotPermitted,
    /// Whoever read our standard output has closed it: nothing is said, as if SIGPIPE had ended us.
    OutputClosed,
    /// As the control plane, or a signal, has it.
    Code(u8),
}

/// The end of a command that didn't do what was asked.
#[derive(Debug)]
pub struct CommandError {
    pub kind: Kind,
    pub error: Box<dyn Error + Send + Sync>,
    pub hints: Vec<String>,
}

impl CommandError {
    pub fn new(kind: Kind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    pub fn usage(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(Kind::Usage, error)
    }

    /// Adds the next step for a person.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// An error of a file or stream, with what was being done to what.
    pub fn io(doing: impl std::fmt::Display, error: &io::Error) -> Self {
        let kind = match error.kind() {
            io::ErrorKind::NotFound => Kind::NoInput,
            io::ErrorKind::PermissionDenied => Kind::NotPermitted,
            _ => Kind::Failed,
        };
        Self::new(kind, format!("{doing}: {error}"))
    }

    pub fn exit_code(&self) -> u8 {
        match self.kind {
            Kind::Failed => exit::FAILED,
            Kind::Usage => exit::USAGE,
            Kind::NoInput => exit::NO_INPUT,
            Kind::CantCreate => exit::CANT_CREATE,
            Kind::NoControlPlane => exit::NO_CONTROL_PLANE,
            Kind::NotPermitted => exit::NOT_PERMITTED,
            // 128 + SIGPIPE
            Kind::OutputClosed => 141,
            Kind::Code(code) => code,
        }
    }

    /// `error: …` and `hint: …` lines on stderr; with `--json` one object instead.
    pub async fn report(&self, term: &mut Term) {
        if self.kind == Kind::OutputClosed {
            return;
        }
        let error = plain(&self.error.to_string()).into_owned();
        // A stderr that can't be written to leaves nobody to tell.
        if term.settings.json {
            let object = serde_json::json!({"error": error, "hints": self.hints, "exit": self.exit_code()});
            let _ = term.error_line(&object.to_string()).await;
            return;
        }
        let _ = term.error_line(&format!("{} {error}", term.red("error:"))).await;
        for hint in &self.hints {
            let _ = term
                .error_line(&format!("{} {}", term.cyan("hint:"), plain(hint)))
                .await;
        }
    }
}

/// A refusal of the control plane, which names exit code and hint in the status' metadata.
impl From<Status> for CommandError {
    fn from(status: Status) -> Self {
        let told = told_exit(&status);
        let kind = match (told, status.code()) {
            (Some(code), _) => Kind::Code(code),
            (None, Code::InvalidArgument) => Kind::Usage,
            (None, Code::NotFound) => Kind::NoInput,
            (None, Code::AlreadyExists) => Kind::CantCreate,
            (None, Code::PermissionDenied | Code::Unauthenticated) => Kind::NotPermitted,
            (None, Code::Unavailable) => Kind::NoControlPlane,
            (None, _) if is_cut(&status) => Kind::NoControlPlane,
            (None, _) => Kind::Failed,
        };
        let hint = status
            .metadata()
            .get("clawker-hint")
            .and_then(|value| value.to_str().ok());
        let hint = match (hint, status.code(), kind) {
            (Some(hint), _, _) => Some(hint.to_owned()),
            (None, Code::Unimplemented, _) => {
                Some("clawker and the control plane are of different versions: `clawker status`".to_owned())
            }
            (None, _, Kind::NoControlPlane) => Some("look whether it still runs: `clawker status`".to_owned()),
            _ => None,
        };
        let message = match (status.message(), kind) {
            // tonic's own words for a transport that broke help nobody.
            (_, Kind::NoControlPlane) if told.is_none() && status.source().is_some() => {
                "the connection to the control plane broke".to_owned()
            }
            ("", _) => format!("the control plane refused: {:?}", status.code()),
            (message, _) => message.to_owned(),
        };
        Self {
            kind,
            error: message.into(),
            hints: hint.into_iter().collect(),
        }
    }
}

/// Whether the connection broke under a call, or the control plane is about to end, as opposed to its answer.
pub fn is_cut(status: &Status) -> bool {
    match told_exit(status) {
        Some(code) => code == exit::NO_CONTROL_PLANE,
        None if status.code() == Code::Unavailable => true,
        // Only what tonic made itself has a source.
        None => {
            matches!(
                status.code(),
                Code::Unknown | Code::Internal | Code::Cancelled | Code::Aborted
            ) && status.source().is_some()
        }
    }
}

fn told_exit(status: &Status) -> Option<u8> {
    status.metadata().get("clawker-exit")?.to_str().ok()?.parse().ok()
}
