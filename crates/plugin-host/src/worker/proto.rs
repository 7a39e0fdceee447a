//! What control plane and worker say to each other: postcard, each message behind its length.
//!
//! Both ends are of one build, so the form needs no versions. Effects cross as JSON, because that is how the model
//! writes them.

use clawker_model::{EffectNote, EffectResult};
use serde::{Deserialize, Serialize};

use crate::bindings::policy::clawker::plugin::{policy_types, types};
use crate::bindings::step::clawker::plugin::step_types::Context;
use crate::limits::{MAX_TEXT, cut};
use crate::log::Line;
use crate::{Kind, Limits, LoadError, Unavailable};

/// The first message to a worker, with its channels' descriptors.
#[derive(Debug, Serialize, Deserialize)]
pub struct Begin {
    pub channels: u32,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Request {
    /// On the control socket, with the code's descriptor.
    Load {
        handle: u64,
        kind: Kind,
        /// Of each of its calls.
        limits: Limits,
    },
    /// On the control socket.
    Unload {
        handle: u64,
    },
    Evaluate {
        call: u64,
        handle: u64,
        question: Evaluate,
    },
    Step {
        call: u64,
        handle: u64,
        question: Step,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Evaluate {
    pub settings: String,
    pub event: policy_types::Event,
    pub facts: policy_types::Facts,
    pub state: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Step {
    pub settings: String,
    pub secrets: Vec<String>,
    pub context: Context,
    pub history: Vec<(EffectNote, Answer)>,
}

/// An [`EffectResult`], whose own form needs a self-describing format.
#[derive(Debug, Serialize, Deserialize)]
pub enum Answer {
    Exec {
        code: i32,
        stdout: Vec<u8>,
        stderr: Vec<u8>,
    },
    WriteFile(bool),
    ReadFile(Vec<u8>),
    Failed {
        code: String,
        message: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// The worker is confined, but for what couldn't be done, and serves.
    Ready {
        without: Vec<String>,
    },
    /// It couldn't be confined, say, and has seen nothing of a plugin.
    NotReady {
        why: String,
    },
    Loaded(Result<types::Description, NotLoaded>),
    Unloaded,
    Decided {
        call: u64,
        decision: Result<(policy_types::Decision, u64), Unavailable>,
        lines: Vec<Line>,
    },
    /// A [`StepTurn`](crate::StepTurn) as JSON.
    Turned {
        call: u64,
        turn: String,
        lines: Vec<Line>,
    },
}

/// Why a worker doesn't have a plugin.
#[derive(Debug, Serialize, Deserialize)]
pub enum NotLoaded {
    /// Its code isn't a plugin's: exports or imports of another type.
    Code(String),
    /// It couldn't say what it is.
    Describe(Unavailable),
}

impl From<NotLoaded> for LoadError {
    fn from(not: NotLoaded) -> Self {
        match not {
            NotLoaded::Code(why) => Self::Compile(cut(why, MAX_TEXT)),
            NotLoaded::Describe(why) => Self::Describe(why),
        }
    }
}

pub fn recorded((note, result): &(EffectNote, EffectResult)) -> (EffectNote, Answer) {
    let answer = match result.clone() {
        EffectResult::Exec { code, stdout, stderr } => Answer::Exec { code, stdout, stderr },
        EffectResult::WriteFile { written } => Answer::WriteFile(written),
        EffectResult::ReadFile { content } => Answer::ReadFile(content),
        EffectResult::Failed { code, message } => Answer::Failed { code, message },
    };
    (note.clone(), answer)
}

pub fn result((note, answer): (EffectNote, Answer)) -> (EffectNote, EffectResult) {
    let result = match answer {
        Answer::Exec { code, stdout, stderr } => EffectResult::Exec { code, stdout, stderr },
        Answer::WriteFile(written) => EffectResult::WriteFile { written },
        Answer::ReadFile(content) => EffectResult::ReadFile { content },
        Answer::Failed { code, message } => EffectResult::Failed { code, message },
    };
    (note, result)
}
