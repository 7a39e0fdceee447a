//! What a plugin may do: the interfaces that it imports, with bounds where its manifest names some.
//!
//! ```text
//! imports of the code ─┐
//! asks of the manifest ┴► asked ──minus what an operator granted──► missing: empty, or nothing is installed
//! ```
//! An interface alone is without bounds; `exec:git *`, `read-file:/etc/`, `write-file:~/.ssh/`, `secrets:TOKEN` are bounded.
//! `log` and `settings` are every plugin's and need no grant.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::Manifest;

/// Grants of one plugin.
pub const MAX_GRANTS: usize = 256;
/// Bytes of one.
pub const MAX_GRANT: usize = 1 << 10;
/// Interfaces that bounds can be given for.
const BOUNDED: [&str; 4] = ["exec", "read-file", "secrets", "write-file"];
/// Those that nobody has to grant.
const FREE: [&str; 2] = ["log", "settings"];

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text:.80}` is no grant: {problem}")]
pub struct GrantError {
    text: String,
    problem: &'static str,
}

/// One permission, perhaps within bounds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Grant {
    interface: String,
    bound: Option<String>,
}

impl Grant {
    /// Reads `interface` or `interface:bound`.
    pub fn parse(text: &str) -> Result<Self, GrantError> {
        let (interface, bound) = match text.split_once(':') {
            Some((interface, bound)) => (interface, Some(bound)),
            None => (text, None),
        };
        let problem = if text.len() > MAX_GRANT {
            Some("it is longer than 1 KiB")
        } else if !BOUNDED.contains(&interface) && !FREE.contains(&interface) {
            Some("there are exec, read-file, write-file, secrets, log and settings")
        } else if bound.is_some_and(|_| FREE.contains(&interface)) {
            Some("log and settings have no bounds")
        } else {
            bound.and_then(|bound| wrong_bound(interface, bound))
        };
        match problem {
            Some(problem) => Err(GrantError {
                text: text.to_owned(),
                problem,
            }),
            None => Ok(Self {
                interface: interface.to_owned(),
                bound: bound.map(ToOwned::to_owned),
            }),
        }
    }

    pub fn interface(&self) -> &str {
        &self.interface
    }

    pub fn bound(&self) -> Option<&str> {
        self.bound.as_deref()
    }

    /// Whether whoever has this has the other one too.
    fn covers(&self, other: &Self) -> bool {
        self.interface == other.interface && (self.bound.is_none() || self.bound == other.bound)
    }
}

fn wrong_bound(interface: &str, bound: &str) -> Option<&'static str> {
    if bound.is_empty() || bound.chars().any(char::is_control) {
        return Some("a bound is a line of text");
    }
    match interface {
        "exec" => {
            let words: Vec<&str> = bound.split(' ').collect();
            let (last, before) = words.split_last()?;
            if words.iter().any(|word| word.is_empty()) {
                Some("its words stand one space apart")
            } else if before.contains(&"**") {
                Some("`**`, any further words, is the last")
            } else if words.first().is_some_and(|first| first.starts_with('*')) && last != &"**" {
                Some("its first word is a program")
            } else {
                None
            }
        }
        "secrets" => {
            let named = bound
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
            (!named).then_some("a secret's name is of letters, digits, `_`, `-` and `.`")
        }
        _ => {
            let rooted = bound.starts_with('/') || bound.starts_with("~/");
            let climbs = bound.split('/').any(|part| part == ".." || part == ".");
            (!rooted || climbs).then_some("a path is absolute or begins with `~/`, without `.` and `..`")
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.bound {
            Some(bound) => write!(f, "{}:{bound}", self.interface),
            None => f.write_str(&self.interface),
        }
    }
}

impl TryFrom<String> for Grant {
    type Error = GrantError;

    fn try_from(text: String) -> Result<Self, GrantError> {
        Self::parse(&text)
    }
}

impl From<Grant> for String {
    fn from(grant: Grant) -> Self {
        grant.to_string()
    }
}

/// Grants, in order and each once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeSet<Grant>);

impl Grants {
    /// What a component asks for: its imports, within the bounds that its manifest names.
    pub fn asked(manifest: &Manifest) -> Self {
        let bounds = |interface: &str| {
            let bounds = manifest.asks.get(interface).cloned().unwrap_or_default();
            let grant = |bound| Grant {
                interface: interface.to_owned(),
                bound,
            };
            match bounds.is_empty() {
                true => vec![grant(None)],
                false => bounds.into_iter().map(|bound| grant(Some(bound))).collect(),
            }
        };
        manifest.imports.iter().flat_map(|import| bounds(import)).collect()
    }

    /// What of these isn't covered by `granted`.
    pub fn missing(&self, granted: &Self) -> Self {
        let covered = |asked: &Grant| {
            FREE.contains(&asked.interface.as_str()) || granted.0.iter().any(|grant| grant.covers(asked))
        };
        self.0.iter().filter(|asked| !covered(asked)).cloned().collect()
    }

    /// Those that somebody has to grant.
    pub fn to_grant(&self) -> Self {
        self.missing(&Self::default())
    }

    /// Whether a command may be run.
    pub fn allows_exec(&self, argv: &[String]) -> bool {
        self.any("exec", |pattern| matches(pattern, argv))
    }

    /// Whether a file may be read. A path with `..` or `.` in it is within no bounds.
    pub fn allows_read(&self, path: &str) -> bool {
        self.any("read-file", |bound| is_within(path, bound))
    }

    /// Whether a file may be written.
    pub fn allows_write(&self, path: &str) -> bool {
        self.any("write-file", |bound| is_within(path, bound))
    }

    /// Whether a secret may be put into a file or a command.
    pub fn allows_secret(&self, name: &str) -> bool {
        self.any("secrets", |bound| bound == name)
    }

    fn any(&self, interface: &str, within: impl Fn(&str) -> bool) -> bool {
        let mut grants = self.0.iter().filter(|grant| grant.interface == interface);
        grants.any(|grant| grant.bound.as_deref().is_none_or(&within))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Grant> {
        self.0.iter()
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn to_strings(&self) -> Vec<String> {
        self.0.iter().map(ToString::to_string).collect()
    }

    /// Reads each, at most [`MAX_GRANTS`].
    pub fn parse<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, GrantError> {
        let grants: Self = texts.into_iter().map(Grant::parse).collect::<Result<_, _>>()?;
        match grants.0.iter().nth(MAX_GRANTS) {
            Some(one_more) => Err(GrantError {
                text: one_more.to_string(),
                problem: "it is one of more than 256",
            }),
            None => Ok(grants),
        }
    }
}

impl FromIterator<Grant> for Grants {
    fn from_iter<I: IntoIterator<Item = Grant>>(grants: I) -> Self {
        Self(grants.into_iter().collect())
    }
}

fn matches(pattern: &str, argv: &[String]) -> bool {
    let words: Vec<&str> = pattern.split(' ').collect();
    let (words, open) = match words.split_last() {
        Some((&"**", before)) => (before, true),
        _ => (words.as_slice(), false),
    };
    let fits = |(word, arg): (&&str, &String)| *word == "*" || *word == arg;
    let enough = if open {
        argv.len() >= words.len()
    } else {
        argv.len() == words.len()
    };
    enough && words.iter().zip(argv).all(fits)
}

fn is_within(path: &str, bound: &str) -> bool {
    let climbs = path.split('/').any(|part| part == ".." || part == ".");
    !climbs && (path == bound || (bound.ends_with('/') && path.starts_with(bound)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn grants(texts: &[&str]) -> Grants {
        Grants::parse(texts.iter().copied()).expect("grants")
    }

    fn argv(line: &str) -> Vec<String> {
        line.split(' ').map(ToOwned::to_owned).collect()
    }

    #[test]
    fn an_upgrade_that_asks_for_more_is_told_from_one_that_does_not() {
        let granted = grants(&["exec:git *", "read-file:/etc/", "secrets"]);
        for (asked, missing) in [
            (vec!["log", "settings", "exec:git *", "secrets:TOKEN"], vec![]),
            (vec!["exec"], vec!["exec"]),
            (vec!["exec:git **"], vec!["exec:git **"]),
            (vec!["read-file:/etc/passwd"], vec!["read-file:/etc/passwd"]),
            (vec!["write-file:/etc/"], vec!["write-file:/etc/"]),
        ] {
            assert_eq!(grants(&asked).missing(&granted), grants(&missing), "{asked:?}");
        }
    }

    #[test]
    fn commands_are_held_against_patterns() {
        let some = grants(&["exec:git config *", "exec:make **"]);
        for (line, allowed) in [
            ("git config x", true),
            ("git config", false),
            ("git config x y", false),
            ("git push x", false),
            ("make", true),
            ("make a b c", true),
            ("/bin/make", false),
        ] {
            assert_eq!(some.allows_exec(&argv(line)), allowed, "{line}");
            assert!(grants(&["exec"]).allows_exec(&argv(line)));
            assert!(!grants(&["read-file"]).allows_exec(&argv(line)));
        }
    }

    #[test]
    fn paths_are_held_within_folders_and_files() {
        let some = grants(&["read-file:/etc/", "read-file:~/.ssh/id", "write-file:~/x/"]);
        for (path, read, write) in [
            ("/etc/passwd", true, false),
            ("/etc", false, false),
            ("/etc/../root/x", false, false),
            ("/etcetera", false, false),
            ("~/.ssh/id", true, false),
            ("~/.ssh/id2", false, false),
            ("~/x/y", false, true),
            ("~/x/../y", false, false),
        ] {
            assert_eq!(some.allows_read(path), read, "{path}");
            assert_eq!(some.allows_write(path), write, "{path}");
        }
        assert!(grants(&["secrets:A"]).allows_secret("A") && !grants(&["secrets:A"]).allows_secret("B"));
        assert!(!Grants::default().allows_secret("A"));
    }

    #[test]
    fn texts_that_are_no_grants_are_refused_by_what_is_wrong() {
        let long = format!("exec:{}", "x".repeat(MAX_GRANT));
        for (text, says) in [
            ("", "there are exec"),
            ("network", "there are exec"),
            ("log:x", "no bounds"),
            ("exec:", "a line of text"),
            ("exec:a  b", "one space apart"),
            ("exec:* x", "a program"),
            ("exec:a ** b", "is the last"),
            ("read-file:etc", "absolute"),
            ("read-file:/etc/../x", "absolute"),
            ("write-file:~x", "absolute"),
            ("secrets:a b", "letters"),
            (&long, "longer"),
        ] {
            let error = Grant::parse(text).expect_err(text).to_string();
            assert!(error.contains(says), "{error}");
        }
        let many: Vec<String> = (0..=MAX_GRANTS).map(|n| format!("secrets:S{n}")).collect();
        assert!(Grants::parse(many.iter().map(String::as_str)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_the_same(text in "(exec|read-file|secrets|log)(:[a-z~/* .]{0,20})?") {
            if let Ok(grant) = Grant::parse(&text) {
                prop_assert_eq!(grant.to_string(), text);
            }
        }

        #[test]
        fn nothing_outside_of_a_folder_is_within_it(path in "[a-z./~]{0,24}") {
            if grants(&["read-file:/etc/"]).allows_read(&path) {
                prop_assert!(path.starts_with("/etc/") && !path.contains("/../"));
            }
        }
    }
}
