//! `clawkerd doctor`: what the kernel and this place offer of what clawkerd relies on, one row a capability.
//!
//! ```text
//!  Here (files, read once) --> judge, pure ---\
//!                                              table --> Report --> text | JSON
//!  calls: the real call, in a process of its  /
//!  own where it would change this one
//! ```
//! Nothing is left behind, and what fails is a row. It says what holds *here*: on a host the rows about a container
//! say that it isn't one. What it reads may be an agent's to write, so all of it is shown without control characters.

mod calls;
mod here;
mod judge;
mod render;
mod table;
mod trial;

use std::fmt::Display;

use serde::Serialize;

pub use trial::Trial;

/// How well a thing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// clawkerd works with less than it promises.
    Degraded,
    Missing,
}

/// What a look at one thing gave.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    verdict: Verdict,
    found: String,
}

impl Finding {
    fn ok(found: impl Display) -> Self {
        Self::new(Verdict::Ok, found)
    }

    fn degraded(found: impl Display) -> Self {
        Self::new(Verdict::Degraded, found)
    }

    fn missing(found: impl Display) -> Self {
        Self::new(Verdict::Missing, found)
    }

    fn new(verdict: Verdict, found: impl Display) -> Self {
        let found = render::plain(&found.to_string());
        Self { verdict, found }
    }
}

/// One capability, judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Programs know it by this.
    pub name: &'static str,
    pub verdict: Verdict,
    /// clawkerd init is of no use where it is missing.
    pub required: bool,
    pub found: String,
    /// What follows where it is degraded or missing.
    pub without: &'static str,
}

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    pub build: &'static str,
    /// Nothing that is required is missing.
    pub runs: bool,
    pub rows: Vec<Row>,
}

impl Report {
    fn new(rows: Vec<Row>) -> Self {
        let lacks = |row: &Row| row.required && row.verdict == Verdict::Missing;
        Self {
            build: crate::BUILD,
            runs: !rows.iter().any(lacks),
            rows,
        }
    }

    /// For a person.
    pub fn text(&self) -> String {
        render::text(self)
    }

    /// For a program: one object on one line.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }
}

/// Looks at everything.
pub fn examine() -> Report {
    let here = here::Here::look();
    Report::new(table::CAPABILITIES.iter().map(|one| one.examine(&here)).collect())
}
