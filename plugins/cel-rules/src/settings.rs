//! The rules as the operator wrote them, checked before any of them is asked.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::{reason, watched};

/// Rules of one policy.
pub const MAX_RULES: usize = 64;
/// Bytes of an expression, and of a reason.
pub const MAX_TEXT: usize = 4 << 10;
/// The most that `times` may be.
pub const MAX_TIMES: u32 = 64;
/// The sum of all rules' `times`: with it the state stays below the host's 16 KiB.
pub const MAX_TIMES_TOGETHER: u32 = 512;
/// Seconds.
pub const MAX_WITHIN: u32 = 86_400;

/// All of them.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    pub rules: Vec<Rule>,
}

/// When something happens, something is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    pub name: String,
    /// Kinds of events.
    pub on: Vec<String>,
    /// A CEL expression.
    #[serde(default = "always")]
    pub when: String,
    pub action: String,
    /// Destinations, for `restrict-egress`.
    #[serde(default)]
    pub allow: Vec<String>,
    /// Text, in which `{body.code}` and the like are replaced.
    #[serde(default)]
    pub reason: String,
    /// So often `when` has to be true,
    #[serde(default = "once")]
    pub times: u32,
    /// within so many seconds.
    pub within: Option<u32>,
}

fn always() -> String {
    "true".into()
}

fn once() -> u32 {
    1
}

impl Settings {
    /// What is wrong, by rule.
    pub fn check(&self) -> Result<(), String> {
        if self.rules.len() > MAX_RULES {
            return Err(format!("{} rules, the limit is {MAX_RULES}", self.rules.len()));
        }
        let mut names = BTreeSet::new();
        for rule in &self.rules {
            let wrong = |problem: String| format!("rule `{:.64}`: {problem}", rule.name);
            rule.check().map_err(wrong)?;
            if !names.insert(&rule.name) {
                return Err(wrong("there is another of this name".into()));
            }
        }
        let together: u32 = self.rules.iter().map(|rule| rule.times).sum();
        if together > MAX_TIMES_TOGETHER {
            return Err(format!(
                "`times` of all rules together is {together}, the limit is {MAX_TIMES_TOGETHER}"
            ));
        }
        Ok(())
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !(1..=64).contains(&self.name.len()) || !self.name.bytes().all(word) {
            return Err("a name is 1 to 64 of a-z, 0-9 and `-`".into());
        }
        if self.on.is_empty() {
            return Err("`on` names no kind of event".into());
        }
        if let Some(kind) = self.on.iter().find(|kind| !watched::EVENTS.contains(&kind.as_str())) {
            let known = watched::EVENTS.join(", ");
            return Err(format!(
                "`on`: this policy isn't asked about `{kind:.80}`, but about {known}"
            ));
        }
        for (key, text) in [("when", &self.when), ("reason", &self.reason)] {
            if text.len() > MAX_TEXT {
                return Err(format!("`{key}` has {} bytes, the limit is {MAX_TEXT}", text.len()));
            }
        }
        reason::check(&self.reason)?;
        if !(1..=MAX_TIMES).contains(&self.times) {
            return Err(format!("`times` must be 1 to {MAX_TIMES}"));
        }
        match self.within {
            None if self.times > 1 => Err("`times` needs `within`, in seconds".into()),
            Some(within) if !(1..=MAX_WITHIN).contains(&within) => Err(format!("`within` must be 1 to {MAX_WITHIN}")),
            _ => watched::verdict(&self.action, &self.allow, String::new()).map(drop),
        }
    }
}
