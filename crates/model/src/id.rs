//! Identifiers that aren't names: containers, run folders, execs, digests, starts.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an id was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` is not {expected}")]
pub struct IdError {
    value: String,
    expected: &'static str,
}

fn id_error(value: &str, expected: &'static str) -> IdError {
    IdError {
        value: value.chars().take(80).collect(),
        expected,
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $type:ident, $expected:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            pub fn parse(value: &str) -> Result<Self, IdError> {
                let valid: fn(&str) -> bool = $valid;
                if valid(value) { Ok(Self(value.to_owned())) } else { Err(id_error(value, $expected)) }
            }

            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $type {
            type Error = IdError;
            fn try_from(value: String) -> Result<Self, IdError> {
                Self::parse(&value)
            }
        }

        impl From<$type> for String {
            fn from(id: $type) -> String {
                id.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

fn hex(value: &str, len: usize) -> bool {
    value.len() == len && value.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

text_id!(
    /// A container's full id.
    ContainerId,
    "a container id (64 lower-case hex digits)",
    |v| hex(v, 64)
);

impl ContainerId {
    /// The 12 digits that people are used to.
    pub fn short(&self) -> &str {
        self.0.get(..12).unwrap_or(&self.0)
    }
}

text_id!(
    /// The random name of an agent's run folder.
    RunId,
    "a run id (22 letters and digits)",
    |v| v.len() == 22 && v.bytes().all(|b| b.is_ascii_alphanumeric())
);

text_id!(
    /// An exec's id, chosen by whoever asks for it.
    ExecId,
    "an exec id (1 to 128 of a-z, A-Z, 0-9, `.`, `_`, `-`, `/`)",
    |v| (1..=128).contains(&v.len())
        && v.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'/'))
);

text_id!(
    /// SHA-256 of a plugin component, in hex.
    PluginDigest,
    "a plugin digest (64 lower-case hex digits)",
    |v| hex(v, 64)
);

impl PluginDigest {
    /// Of the 32 bytes of a SHA-256.
    pub fn of(sha256: &[u8; 32]) -> Self {
        Self(sha256.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

text_id!(
    /// SHA-256 of a certificate's DER, in hex.
    Thumbprint,
    "a thumbprint (64 lower-case hex digits)",
    |v| hex(v, 64)
);

/// One life of a container's init.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Start {
    /// Counts from 1 for each container.
    pub number: u64,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Field 22 of `/proc/<pid>/stat`, clock ticks since boot (proc(5)).
    pub init_start_time: u64,
}

/// What the ids of operators' execs begin with; those of steps begin otherwise.
pub const OPERATOR_EXEC: &str = "operator/";

/// Most bytes of what follows [`OPERATOR_EXEC`].
pub const MAX_EXEC_WORD: usize = 64;

/// Whether it may follow [`OPERATOR_EXEC`].
pub fn is_exec_word(word: &str) -> bool {
    (1..=MAX_EXEC_WORD).contains(&word.len())
        && word
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_whole() {
        let id = "0123456789abcdef".repeat(4);
        assert_eq!(ContainerId::parse(&id).expect("whole").short(), "0123456789ab");
        for bad in [&id[..63], &id.to_uppercase(), "", "../../etc/passwd"] {
            assert!(ContainerId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn exec_ids_hold_no_surprises() {
        assert!(ExecId::parse("abc/welcome/1/0").is_ok());
        for bad in ["", "a b", "a\0", &"x".repeat(129)] {
            assert!(ExecId::parse(bad).is_err(), "{bad:?} was accepted");
        }
    }
}
