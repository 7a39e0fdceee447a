//! `--defaults`: what clawkerd runs when no control plane came and its agent's creator allowed that.
//!
//! The AgentReady that a control plane would send, without its secrets, as base64 of its protobuf. It stands in the
//! arguments of the container, so nothing secret may be in it: neither end makes or takes one that holds a secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;

use crate::session::AgentReady;

/// Most bytes of the text. One argument of a process is 128 KiB at most (`MAX_ARG_STRLEN`, execve(2)).
pub const MAX_DEFAULTS: usize = 96 * 1024;

/// Why there are no such defaults.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum DefaultsError {
    #[error("the command with its environment takes {len} bytes as an argument, the limit is {MAX_DEFAULTS}")]
    TooLong { len: usize },
    #[error("they would hold a secret")]
    Secret,
    #[error("there is no command")]
    NoCommand,
    #[error("they are malformed")]
    Malformed,
}

pub fn encode(ready: &AgentReady) -> Result<String, DefaultsError> {
    let text = STANDARD.encode(checked(ready)?.encode_to_vec());
    match text.len() {
        len if len > MAX_DEFAULTS => Err(DefaultsError::TooLong { len }),
        _ => Ok(text),
    }
}

pub fn decode(text: &str) -> Result<AgentReady, DefaultsError> {
    if text.len() > MAX_DEFAULTS {
        return Err(DefaultsError::TooLong { len: text.len() });
    }
    let bytes = STANDARD.decode(text).map_err(|_| DefaultsError::Malformed)?;
    let ready = AgentReady::decode(bytes.as_slice()).map_err(|_| DefaultsError::Malformed)?;
    checked(&ready).cloned()
}

fn checked(ready: &AgentReady) -> Result<&AgentReady, DefaultsError> {
    if !ready.secrets.is_empty() {
        return Err(DefaultsError::Secret);
    }
    match &ready.main {
        Some(main) if !main.argv.is_empty() => Ok(ready),
        _ => Err(DefaultsError::NoCommand),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::{HealthCheck, Main, Secret};

    fn ready(argument: &str) -> AgentReady {
        AgentReady {
            main: Some(Main {
                argv: vec!["sh".into(), argument.into()],
                env: vec!["A=1".into()],
                no_new_privs: true,
                ..Default::default()
            }),
            health: Some(HealthCheck::default()),
            secrets: Vec::new(),
        }
    }

    #[test]
    fn defaults_come_back_as_they_were_and_hold_no_secret() {
        let text = encode(&ready("-c")).expect("small");
        assert_eq!(decode(&text).expect("whole"), ready("-c"));
        let secret = AgentReady {
            secrets: vec![Secret::default()],
            ..ready("-c")
        };
        assert_eq!(encode(&secret), Err(DefaultsError::Secret));
        assert_eq!(
            decode(&STANDARD.encode(secret.encode_to_vec())),
            Err(DefaultsError::Secret)
        );
        assert_eq!(encode(&AgentReady::default()), Err(DefaultsError::NoCommand));
    }

    #[test]
    fn defaults_are_bounded_and_well_formed_or_refused() {
        assert!(matches!(
            encode(&ready(&"x".repeat(MAX_DEFAULTS))),
            Err(DefaultsError::TooLong { .. })
        ));
        assert!(matches!(
            decode(&"A".repeat(MAX_DEFAULTS + 1)),
            Err(DefaultsError::TooLong { .. })
        ));
        for text in ["", "%", "AAAA", "CgA"] {
            assert!(decode(text).is_err(), "{text:?}");
        }
    }
}
