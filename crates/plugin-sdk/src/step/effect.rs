//! What a step can ask for in the container.

use std::fmt;

/// The agent's container, as far as a step may touch it. Each method is an effect and a permission: the component
/// imports only what the step calls.
pub trait Container {
    /// Runs a command and waits for its end. Another exit code than 0 is no error here; see [`Output::success`].
    fn exec(&mut self, command: Command) -> Result<Output, EffectError>;

    /// Writes a file as a whole or not at all; `false` if [`WriteWhen`] said no.
    fn write_file(&mut self, file: File) -> Result<bool, EffectError>;

    /// All of a plain file; one larger than `max` bytes (1 MiB at most) is the error `too_large`. `path` is absolute,
    /// or `~/` and what follows in the home of the image's user.
    fn read_file(&mut self, path: &str, max: u32) -> Result<Vec<u8>, EffectError> {
        self.read_file_of(path, max, None)
    }

    /// The same with another user's home.
    fn read_file_of(&mut self, path: &str, max: u32, user: Option<&str>) -> Result<Vec<u8>, EffectError>;

    /// What stands for a secret in a file or a command's standard input. The settings must name it in a property
    /// whose schema has `"format": "secret-name"`; asking for another ends the step. No effect.
    fn secret(&mut self, name: &str, form: Form) -> Secret;
}

/// Stands for a secret whose content the step never sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub(crate) u32);

/// How a secret is written. A newline at its end is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As it is.
    Plain,
    /// Percent-encoded, as in a URL: all but A-Z, a-z, 0-9, `-`, `.`, `_` and `~`.
    Percent,
}

/// A part of what goes into a file or a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The step's own.
    Bytes(Vec<u8>),
    /// Put in when the effect is carried out.
    Secret(Secret),
}

impl From<&str> for Piece {
    fn from(text: &str) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<String> for Piece {
    fn from(text: String) -> Self {
        Self::Bytes(text.into())
    }
}

impl From<Vec<u8>> for Piece {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<Secret> for Piece {
    fn from(secret: Secret) -> Self {
        Self::Secret(secret)
    }
}

/// A command, run without a shell.
///
/// ```
/// # use clawker_plugin_sdk::step::Command;
/// let command = Command::new(["git", "clone", "https://example.com/repo"]).user("dev").cwd("/home/dev").timeout(300);
/// assert_eq!(command.argv[0], "git");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Program and arguments, 256 at most, 128 KiB in all.
    pub argv: Vec<String>,
    /// `NAME=value` on top of the container's environment.
    pub env: Vec<String>,
    /// Absolute; `None` is the image's.
    pub cwd: Option<String>,
    /// Docker's USER string; `None` is the image's.
    pub user: Option<String>,
    /// Seconds, 1 to 600.
    pub timeout: u32,
    /// Standard input, 1 MiB at most; without pieces there is none.
    pub stdin: Vec<Piece>,
}

impl Command {
    /// Program and arguments; 30 seconds to run.
    pub fn new<A: Into<String>>(argv: impl IntoIterator<Item = A>) -> Self {
        let argv = argv.into_iter().map(Into::into).collect();
        Self {
            argv,
            env: Vec::new(),
            cwd: None,
            user: None,
            timeout: 30,
            stdin: Vec::new(),
        }
    }

    /// Adds a variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        self
    }

    /// Runs in this folder.
    pub fn cwd(mut self, cwd: impl Into<String>) -> Self {
        self.cwd = Some(cwd.into());
        self
    }

    /// Runs as this user.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.user = Some(user.into());
        self
    }

    /// Ends it after so many seconds.
    pub fn timeout(mut self, seconds: u32) -> Self {
        self.timeout = seconds;
        self
    }

    /// Adds to its standard input.
    pub fn stdin(mut self, piece: impl Into<Piece>) -> Self {
        self.stdin.push(piece.into());
        self
    }
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Output {
    /// Exit code, or 128 + signal.
    pub code: i32,
    /// The last 64 KiB at most.
    pub stdout: Vec<u8>,
    /// The last 64 KiB at most.
    pub stderr: Vec<u8>,
}

impl Output {
    /// The output if the code was 0, else an error with the code and the end of stderr.
    pub fn success(self) -> Result<Self, EffectError> {
        if self.code == 0 {
            return Ok(self);
        }
        let stderr = String::from_utf8_lossy(&self.stderr);
        let end = stderr.trim_end().lines().next_back().unwrap_or_default();
        let says = if end.is_empty() {
            String::new()
        } else {
            format!(": {end}")
        };
        Err(EffectError {
            code: "exit_nonzero".into(),
            message: format!("exit code {}{says}", self.code),
        })
    }
}

/// A file, with all that it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// Absolute, or `~/` and what follows in the owner's home. Missing folders are made, the owner's own, for the
    /// owner alone if nobody else may do anything with the file.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// Docker's USER string; `None` is the image's.
    pub owner: Option<String>,
    /// Whether a file that exists is written.
    pub when: WriteWhen,
    /// 1 MiB at most.
    pub content: Vec<Piece>,
}

impl File {
    /// Mode 0644, the image's user, always written.
    pub fn new(path: impl Into<String>, content: impl Into<Piece>) -> Self {
        Self::of(path, vec![content.into()])
    }

    /// The same of several pieces.
    pub fn of(path: impl Into<String>, content: Vec<Piece>) -> Self {
        Self {
            path: path.into(),
            mode: 0o644,
            owner: None,
            when: WriteWhen::Always,
            content,
        }
    }

    /// A folder with these permission bits, whether or not it is there already.
    pub fn folder(path: impl Into<String>, mode: u32) -> Self {
        let mut path = path.into();
        if !path.ends_with('/') {
            path.push('/');
        }
        Self {
            mode,
            ..Self::of(path, Vec::new())
        }
    }

    /// With these permission bits.
    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    /// Owned by this user.
    pub fn owner(mut self, owner: impl Into<String>) -> Self {
        self.owner = Some(owner.into());
        self
    }

    /// Written only then.
    pub fn when(mut self, when: WriteWhen) -> Self {
        self.when = when;
        self
    }
}

/// When a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WriteWhen {
    /// Whatever is there.
    Always,
    /// Only if nothing is there.
    IfAbsent,
    /// Only if something else is there.
    IfChanged,
}

/// Why an effect could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectError {
    /// A word for programs, e.g. `not_found`.
    pub code: String,
    /// For people.
    pub message: String,
}

impl fmt::Display for EffectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for EffectError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_command_says_its_code_and_last_line() {
        let output = Output {
            code: 3,
            stdout: vec![],
            stderr: b"one\ntwo\n".to_vec(),
        };
        assert_eq!(output.success().expect_err("code 3").message, "exit code 3: two");
        assert!(Output::default().success().is_ok());
    }
}
