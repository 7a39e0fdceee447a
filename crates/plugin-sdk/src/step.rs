//! Steps: prepare an agent before its command may run.
//!
//! A step reads like a script, but is called anew after each effect, with the results so far. So it must ask for the
//! same effects in the same order each time: what it does may depend on the context, the settings and the results of
//! its effects. There is nothing else that it could depend on.
//!
//! ```
//! use clawker_plugin_sdk::step;
//! use clawker_plugin_sdk::step::{Container, Context, Failure, File, TestContainer};
//!
//! #[step(name = "motd", version = "0.1.0")]
//! fn motd(context: &Context, container: &mut impl Container) -> Result<String, Failure> {
//!     container.write_file(File::new("/etc/motd", format!("hello {}\n", context.agent)))?;
//!     Ok("said hello".into())
//! }
//!
//! let mut container = TestContainer::default();
//! motd(&Context::of("clawker.demo"), &mut container)?;
//! assert_eq!(container.files["/etc/motd"], b"hello clawker.demo\n");
//! # Ok::<(), Failure>(())
//! ```
//!
//! [`#[step]`](macro@crate::step) writes this [`Step`] and exports it.

mod effect;
mod test;

use serde::de::DeserializeOwned;

use crate::policy::Fault;

pub use effect::{Command, Container, EffectError, File, Form, Output, Piece, Secret, WriteWhen};
pub use test::TestContainer;

/// A step of an agent's preparation.
pub trait Step {
    /// `[a-z0-9-]`, 64 characters at most.
    const NAME: &str;
    /// For people, e.g. `env!("CARGO_PKG_VERSION")`.
    const VERSION: &str;
    /// A JSON Schema of [`Settings`](Self::Settings).
    const SETTINGS_SCHEMA: &str = r#"{"type":"object"}"#;

    /// What the operator configures; `()` for nothing. Read from a JSON object, `{}` where nothing is configured.
    type Settings: DeserializeOwned;

    /// The schema that the component shows: [`SETTINGS_SCHEMA`](Self::SETTINGS_SCHEMA), unless the settings derive theirs.
    fn settings_schema() -> String {
        Self::SETTINGS_SCHEMA.into()
    }

    /// The settings that a JSON object holds.
    fn read_settings(json: &str) -> Result<Self::Settings, Fault> {
        Ok(crate::read("settings", json)?)
    }

    /// Does the work; the answer is a message for people.
    fn run(context: &Context, settings: Self::Settings, container: &mut impl Container) -> Result<String, Failure>;
}

/// For which agent, in which of its lives, the step runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Full name, `clawker.<project>.<agent>` or `clawker.<agent>`.
    pub agent: String,
    /// The project, if it has one.
    pub project: Option<String>,
    /// Lives of the container's init, counted from 1.
    pub start: u64,
    /// Whether this is the container's first life.
    pub first_start: bool,
    /// The image as the operator wrote it.
    pub image: String,
}

impl Context {
    /// The first start of an agent of that name, for tests.
    pub fn of(agent: &str) -> Self {
        Self {
            agent: agent.into(),
            project: None,
            start: 1,
            first_start: true,
            image: "image".into(),
        }
    }
}

/// The step could not do its work; the plan says what follows from that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// For people, 1 KiB at most.
    pub message: String,
}

impl Failure {
    /// With a message for people.
    pub fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

impl From<EffectError> for Failure {
    fn from(error: EffectError) -> Self {
        Self::new(error.to_string())
    }
}

/// Makes a [`Step`] the component's. Off WebAssembly it only checks that it is one.
#[macro_export]
#[rustfmt::skip]
macro_rules! export_step {
    ($step:ty) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            type Exported = $crate::guest::StepGuest<$step>;
            $crate::guest::step::export!(Exported with_types_in $crate::guest::step);
        };
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            #[used]
            static EXPORTED: fn() = $crate::step::exported::<$step>;
        };
    };
}

#[doc(hidden)]
pub fn exported<S: Step>() {}

/// What the component does with strings around [`Step::run`].
pub(crate) fn run<S: Step>(
    context: &Context,
    settings: &str,
    container: &mut impl Container,
) -> Result<String, Failure> {
    let settings = S::read_settings(settings).map_err(|fault| Failure::new(fault.to_string()))?;
    S::run(context, settings, container)
}
