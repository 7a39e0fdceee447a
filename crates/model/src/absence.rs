//! What becomes of an agent without its control plane, and of one that has ended: words of its creator.
//!
//! Each is written the same way on the command line, in a request and in clawkerd's arguments: `word`, or
//! `word:number`. They are read by these parsers alone, and `Display` gives what they read.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest wait for a control plane, in seconds: a year.
const MAX_WAIT: u32 = 31_536_000;
/// A lease, in seconds. A shorter one could run out between two that are sent in time.
pub const LEASE: std::ops::RangeInclusive<u32> = 4..=86_400;
/// Most restarts that can be asked for by number.
const MAX_RESTARTS: u32 = 1_000_000;

/// What an agent's creator wants while there is no control plane.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Absence {
    #[serde(default)]
    pub on_absent: OnAbsent,
    /// The command may run in a start whose network policy nobody put in force.
    #[serde(default)]
    pub unverified_network: bool,
    /// The agent's own lease in seconds; `None` is the control plane's.
    #[serde(default)]
    pub lease_s: Option<u32>,
}

/// What PID 1 does while no control plane has come in this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "on_absent")]
pub enum OnAbsent {
    /// Wait; with a deadline, end with exit code 75 after it.
    Await { deadline_s: Option<u32> },
    /// Run the command without a plan and without secrets, after this long.
    Defaults { after_s: u32 },
}

/// What PID 1 does when its lease has run out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OnOrphan {
    Continue,
    #[default]
    Freeze,
    Stop,
}

/// [`OnOrphan`] as it is asked for: `freeze`, or `freeze:300` with a lease of the agent's own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Orphan {
    pub action: OnOrphan,
    pub lease_s: Option<u32>,
}

/// When the control plane starts an agent again that has ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "restart")]
pub enum Restart {
    #[default]
    No,
    /// When its exit code isn't 0; `max` times at most since somebody started it.
    OnFailure { max: Option<u32> },
    /// However it ended, and also what an operator stopped once the control plane begins anew.
    Always,
    /// However it ended, unless an operator stopped it.
    UnlessStopped,
}

/// A word that isn't one of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{value}`: expected {expected}")]
pub struct BadWord {
    value: String,
    pub expected: &'static str,
}

impl Default for OnAbsent {
    fn default() -> Self {
        OnAbsent::Await { deadline_s: None }
    }
}

impl FromStr for OnAbsent {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let bad = || bad(text, "await, await:SECONDS or defaults:SECONDS");
        match text.split_once(':') {
            None if text == "await" => Ok(OnAbsent::Await { deadline_s: None }),
            Some(("await", seconds)) => Ok(OnAbsent::Await {
                deadline_s: Some(number(seconds, 1..=MAX_WAIT).ok_or_else(bad)?),
            }),
            Some(("defaults", seconds)) => Ok(OnAbsent::Defaults {
                after_s: number(seconds, 1..=MAX_WAIT).ok_or_else(bad)?,
            }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for OnAbsent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OnAbsent::Await { deadline_s: None } => f.write_str("await"),
            OnAbsent::Await { deadline_s: Some(s) } => write!(f, "await:{s}"),
            OnAbsent::Defaults { after_s } => write!(f, "defaults:{after_s}"),
        }
    }
}

impl FromStr for Orphan {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let bad = || {
            bad(
                text,
                "continue, freeze or stop, each with or without :SECONDS (4 to 86400)",
            )
        };
        let (word, lease_s) = match text.split_once(':') {
            None => (text, None),
            Some((word, seconds)) => (word, Some(number(seconds, LEASE).ok_or_else(bad)?)),
        };
        let action = match word {
            "continue" => OnOrphan::Continue,
            "freeze" => OnOrphan::Freeze,
            "stop" => OnOrphan::Stop,
            _ => return Err(bad()),
        };
        Ok(Self { action, lease_s })
    }
}

impl fmt::Display for Orphan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.action {
            OnOrphan::Continue => "continue",
            OnOrphan::Freeze => "freeze",
            OnOrphan::Stop => "stop",
        })?;
        self.lease_s.map_or(Ok(()), |seconds| write!(f, ":{seconds}"))
    }
}

impl FromStr for Restart {
    type Err = BadWord;

    fn from_str(text: &str) -> Result<Self, BadWord> {
        let bad = || bad(text, "no, on-failure, on-failure:TIMES, always or unless-stopped");
        match text.split_once(':') {
            None if text == "no" => Ok(Restart::No),
            None if text == "on-failure" => Ok(Restart::OnFailure { max: None }),
            None if text == "always" => Ok(Restart::Always),
            None if text == "unless-stopped" => Ok(Restart::UnlessStopped),
            Some(("on-failure", times)) => Ok(Restart::OnFailure {
                max: Some(number(times, 1..=MAX_RESTARTS).ok_or_else(bad)?),
            }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restart::No => f.write_str("no"),
            Restart::OnFailure { max: None } => f.write_str("on-failure"),
            Restart::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
            Restart::Always => f.write_str("always"),
            Restart::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

fn bad(value: &str, expected: &'static str) -> BadWord {
    BadWord {
        value: value.chars().take(40).collect(),
        expected,
    }
}

/// Digits alone: `+5` and ` 5` are no numbers of ours.
fn number(text: &str, range: std::ops::RangeInclusive<u32>) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| text.parse().ok()).flatten()?;
    range.contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each is read, and shown as it was written.
    fn words<T: FromStr<Err = BadWord> + fmt::Display + fmt::Debug>(good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(text.parse::<T>().expect(text).to_string(), *text);
        }
        for text in bad {
            let error = text.parse::<T>().expect_err(text).to_string();
            assert!(error.contains("expected"), "{text}: {error}");
        }
    }

    #[test]
    fn words_are_read_as_they_are_shown() {
        words::<OnAbsent>(
            &["await", "await:1", "await:31536000", "defaults:10"],
            &[
                "",
                "wait",
                "defaults",
                "await:",
                "await:0",
                "await:+1",
                "await:31536001",
                "defaults:x",
            ],
        );
        words::<Orphan>(
            &["continue", "freeze", "stop", "stop:4", "freeze:86400"],
            &["", "thaw", "freeze:3", "freeze:86401", "stop:", "stop:4:4"],
        );
        words::<Restart>(
            &["no", "on-failure", "on-failure:3", "always", "unless-stopped"],
            &["", "never", "no:1", "always:1", "on-failure:0", "on-failure:1000001"],
        );
        let long = "x".repeat(1000).parse::<Restart>().expect_err("long").to_string();
        assert!(long.len() < 200, "{long}");
    }

    #[test]
    fn an_agent_of_before_these_words_is_read() {
        let old: Absence = serde_json::from_str("{}").expect("nothing said");
        assert_eq!(old, Absence::default());
        assert_eq!(
            (OnAbsent::default().to_string(), Restart::default()),
            ("await".to_owned(), Restart::No)
        );
    }
}
