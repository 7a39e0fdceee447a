//! What the forged PID 1 does differently from an honest one. As JSON on its command line; each key is one lie.

use std::path::PathBuf;

use serde::Deserialize;

use crate::flood::Flood;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// A folder with what it shows instead of what it was given; waited for.
    pub shows: Option<PathBuf>,
    /// The same for its calls alone.
    pub asks_as: Option<PathBuf>,
    /// Shows no certificate with its calls.
    pub bare: bool,
    /// Leaves as soon as it has been said hello to, and comes again.
    pub leaves: bool,
    /// Where it leaves the identity that it was given.
    pub leaks: Option<PathBuf>,
    /// The generation that it says it holds.
    pub holds: Option<u64>,
    /// The names that it registers with, project first.
    pub claims: Option<(String, String)>,
    pub token: Token,
    /// Registers as often.
    pub times: Option<u32>,
    /// Says that it is registered, whatever it was told.
    pub boasts: bool,
    /// Says that its command runs already.
    pub running: bool,
    /// Registers before it was asked to.
    pub early: bool,
    /// Bad input that it sends once, when it has an identity.
    pub floods: Option<Flood>,
    /// An address that it tries to reach all the time.
    pub target: Option<String>,
}

/// What it puts in the place of the token that it was given.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Token {
    #[default]
    Given,
    Guessed,
    Empty,
    Missing,
    /// Given, in a header of another scheme.
    OtherScheme,
    /// The one of its first session, which it leaves unused.
    OfTheSessionBefore,
    /// Left by another agent in this file.
    From(PathBuf),
    /// Leaves it in this file and doesn't register.
    LeftIn(PathBuf),
}
