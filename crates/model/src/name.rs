//! Names of projects and agents, valid by construction.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The most characters that a project or agent name may have. Two of them and `clawker..` make 57,
/// which fits a hostname and a certificate's CN (64 each).
pub const MAX_NAME: usize = 24;

/// Why a name was refused; says the name, the rule and the position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("{what} name is empty")]
    Empty { what: &'static str },
    #[error("{what} name `{name}` has {len} characters, the limit is {MAX_NAME}")]
    TooLong {
        what: &'static str,
        name: String,
        len: usize,
    },
    #[error("{what} name `{name}` may hold only a-z, 0-9 and `-`, and may not begin or end with `-`")]
    Malformed { what: &'static str, name: String },
    #[error("`{name}` is not `clawker.<agent>` or `clawker.<project>.<agent>`")]
    NotFull { name: String },
}

fn check(what: &'static str, name: &str) -> Result<(), NameError> {
    let shown = || name.chars().take(80).collect::<String>();
    if name.is_empty() {
        return Err(NameError::Empty { what });
    }
    let well_formed = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
        && !name.starts_with('-')
        && !name.ends_with('-');
    if !well_formed {
        return Err(NameError::Malformed { what, name: shown() });
    }
    if name.len() > MAX_NAME {
        return Err(NameError::TooLong {
            what,
            name: shown(),
            len: name.len(),
        });
    }
    Ok(())
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Parses `[a-z0-9]([a-z0-9-]*[a-z0-9])?` of at most [`MAX_NAME`] characters.
            pub fn parse(name: &str) -> Result<Self, NameError> {
                check($what, name).map(|()| Self(name.to_owned()))
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(name: String) -> Result<Self, NameError> {
                Self::parse(&name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }

        impl FromStr for $type {
            type Err = NameError;
            fn from_str(name: &str) -> Result<Self, NameError> {
                Self::parse(name)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name!(
    /// The short name of an agent within its project.
    AgentName,
    "agent"
);
name!(
    /// The name of a project.
    ProjectName,
    "project"
);

/// `clawker.<project>.<agent>`, or `clawker.<agent>` for an agent without a project. It is the
/// container's name, its hostname and the CN of the agent's leaf certificate.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FullName {
    project: Option<ProjectName>,
    agent: AgentName,
}

impl FullName {
    pub fn new(project: Option<ProjectName>, agent: AgentName) -> Self {
        Self { project, agent }
    }

    /// Parses the full form, as a container or a CN bears it.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        let not_full = || NameError::NotFull {
            name: name.chars().take(80).collect(),
        };
        let mut parts = name.split('.');
        if parts.next() != Some("clawker") {
            return Err(not_full());
        }
        match (parts.next(), parts.next(), parts.next()) {
            (Some(agent), None, None) => Ok(Self::new(None, AgentName::parse(agent)?)),
            (Some(project), Some(agent), None) => {
                Ok(Self::new(Some(ProjectName::parse(project)?), AgentName::parse(agent)?))
            }
            _ => Err(not_full()),
        }
    }

    /// Parses what a person types: `agent`, `project.agent` or the full form.
    pub fn parse_short(name: &str) -> Result<Self, NameError> {
        if name.starts_with("clawker.") {
            Self::parse(name)
        } else {
            Self::parse(&format!("clawker.{name}"))
        }
    }

    pub fn project(&self) -> Option<&ProjectName> {
        self.project.as_ref()
    }

    pub fn agent(&self) -> &AgentName {
        &self.agent
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.project {
            Some(project) => write!(f, "clawker.{project}.{}", self.agent),
            None => write!(f, "clawker.{}", self.agent),
        }
    }
}

impl TryFrom<String> for FullName {
    type Error = NameError;
    fn try_from(name: String) -> Result<Self, NameError> {
        Self::parse(&name)
    }
}

impl From<FullName> for String {
    fn from(name: FullName) -> String {
        name.to_string()
    }
}

impl FromStr for FullName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_grammar() {
        for good in ["a", "a1", "a-b", "0", "abcdefghijklmnopqrstuvwx"] {
            assert_eq!(AgentName::parse(good).map(String::from), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "-a",
            "a-",
            "A",
            "a_b",
            "a.b",
            "ä",
            "abcdefghijklmnopqrstuvwxy",
            "a\n",
            "a b",
        ] {
            assert!(AgentName::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn full_names_round_trip_and_fit_a_hostname() {
        let longest = format!("clawker.{0}.{0}", "x".repeat(MAX_NAME));
        for name in ["clawker.a", "clawker.p.a", longest.as_str()] {
            let parsed = FullName::parse(name).expect("well formed");
            assert_eq!(parsed.to_string(), name);
            assert!(name.len() <= 57);
        }
        for bad in ["a", "clawker", "clawker.", "clawker.a.b.c", "other.a", "clawker..a"] {
            assert!(FullName::parse(bad).is_err(), "{bad:?} was accepted");
        }
        assert_eq!(FullName::parse_short("p.a").expect("short").to_string(), "clawker.p.a");
    }
}
