//! From a stage, as the control plane asks for it, to a command that can be spawned.

use std::ffi::CString;
use std::io;

use super::spawn::{Command, Failure, FailureKind, Stdio};
use crate::halves::{MAIN, Stage};
use crate::user::{Files, UserError};

/// Docker's, for an environment without one.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Most arguments and environment entries, each.
const MAX_ENTRIES: usize = 32 * 1024;

/// Most bytes of an exec's id.
const MAX_ID: usize = 256;

#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error("{0}")]
    User(#[from] UserError),
    #[error("{what} holds a zero byte")]
    Zero { what: &'static str },
    #[error("{count} {what}, the limit is {MAX_ENTRIES}")]
    TooMany { what: &'static str, count: usize },
    #[error("no command is given")]
    Empty,
    #[error("the working directory is not an absolute path")]
    Cwd,
    #[error("an exec's id has 1 to {MAX_ID} bytes, no control characters, and isn't `{MAIN}`")]
    Id,
    #[error("starting a process: {0}")]
    Io(#[from] io::Error),
}

impl CommandError {
    /// As in `ExecFailed.kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            CommandError::User(_) => "bad_user",
            CommandError::Empty => FailureKind::NotFound.name(),
            CommandError::Cwd => FailureKind::BadCwd.name(),
            CommandError::Id => "bad_id",
            CommandError::Zero { .. } | CommandError::TooMany { .. } | CommandError::Io(_) => FailureKind::Spawn.name(),
        }
    }

    /// As in `ExecFailed.errno`: the kernel's, or what it would have said.
    pub fn errno(&self) -> i32 {
        match self {
            CommandError::User(_) => 0,
            CommandError::Empty => libc::ENOENT,
            CommandError::Zero { .. } | CommandError::Cwd | CommandError::Id => libc::EINVAL,
            CommandError::TooMany { .. } => libc::E2BIG,
            CommandError::Io(error) => error.raw_os_error().unwrap_or(0),
        }
    }

    /// As the container exits when this happens to its main command.
    pub fn exit_code(&self) -> u8 {
        match self {
            CommandError::User(_) => FailureKind::NotExecutable.exit_code(),
            CommandError::Empty => FailureKind::NotFound.exit_code(),
            CommandError::Cwd => FailureKind::BadCwd.exit_code(),
            _ => FailureKind::Spawn.exit_code(),
        }
    }
}

impl From<Failure> for CommandError {
    fn from(failure: Failure) -> Self {
        CommandError::Io(io::Error::from_raw_os_error(failure.errno))
    }
}

/// What may be an exec's id: it goes into logs and onto terminals, and the command's own is not to be had.
pub fn check_id(id: &str) -> Result<(), CommandError> {
    let good = (1..=MAX_ID).contains(&id.len()) && !id.chars().any(char::is_control) && id != MAIN;
    if good { Ok(()) } else { Err(CommandError::Id) }
}

/// What a command has beside its stage.
pub struct Extra<'a> {
    /// Entries that go before nothing and after everything: secrets.
    pub env: Vec<Vec<u8>>,
    pub mark: u32,
    pub no_new_privs: bool,
    pub create_cwd: bool,
    pub stdio: Stdio,
    pub files: &'a Files,
}

/// Resolves the user, completes the environment as Docker does (PATH, HOME, HOSTNAME, TERM).
pub fn build(stage: &Stage, extra: Extra<'_>) -> Result<Command, CommandError> {
    if stage.argv.is_empty() {
        return Err(CommandError::Empty);
    }
    for (what, count) in [
        ("arguments", stage.argv.len()),
        ("environment entries", stage.env.len()),
    ] {
        if count > MAX_ENTRIES {
            return Err(CommandError::TooMany { what, count });
        }
    }
    let identity = extra.files.resolve(&stage.user)?;
    let terminal = matches!(extra.stdio, Stdio::Terminal(_) | Stdio::Inherited { terminal: true });
    let mut env: Vec<Vec<u8>> = stage.env.iter().map(|entry| entry.clone().into_bytes()).collect();
    let mut default = |entry: String| {
        let name = entry.split_inclusive('=').next().unwrap_or_default();
        if !env.iter().any(|known| known.starts_with(name.as_bytes())) {
            env.push(entry.into_bytes());
        }
    };
    default(DEFAULT_PATH.to_owned());
    default(format!(
        "HOME={}",
        if identity.home.is_empty() { "/" } else { &identity.home }
    ));
    default(format!(
        "HOSTNAME={}",
        rustix::system::uname().nodename().to_string_lossy()
    ));
    if terminal {
        default("TERM=xterm".to_owned());
    }
    env.extend(extra.env);
    Ok(Command {
        argv: strings("the command", stage.argv.iter().map(|arg| arg.clone().into_bytes()))?,
        env: strings("the environment", env)?,
        cwd: directory(&stage.cwd)?,
        create_cwd: extra.create_cwd,
        identity,
        no_new_privs: extra.no_new_privs,
        stdio: extra.stdio,
        mark: extra.mark,
    })
}

/// Absolute, as Docker wants it: PID 1's own directory is nobody's business.
fn directory(cwd: &str) -> Result<CString, CommandError> {
    match cwd {
        "" => Ok(c"/".to_owned()),
        cwd if cwd.starts_with('/') => CString::new(cwd).map_err(|_| CommandError::Cwd),
        _ => Err(CommandError::Cwd),
    }
}

fn strings(what: &'static str, list: impl IntoIterator<Item = Vec<u8>>) -> Result<Vec<CString>, CommandError> {
    list.into_iter()
        .map(|entry| CString::new(entry).map_err(|_| CommandError::Zero { what }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stage(argv: &[&str], env: &[&str]) -> Stage {
        Stage {
            argv: argv.iter().map(ToString::to_string).collect(),
            user: "1000".to_owned(),
            env: env.iter().map(ToString::to_string).collect(),
            cwd: String::new(),
        }
    }

    fn built(stage: &Stage, secret: &[u8], terminal: bool) -> Result<Command, CommandError> {
        build(
            stage,
            Extra {
                env: vec![secret.to_vec()],
                mark: 1,
                no_new_privs: true,
                create_cwd: false,
                stdio: Stdio::Inherited { terminal },
                files: &Files {
                    passwd: "a:x:1000:1000::/home/a:\n".to_owned(),
                    group: String::new(),
                },
            },
        )
    }

    fn env(command: &Command) -> Vec<&str> {
        command.env.iter().filter_map(|entry| entry.to_str().ok()).collect()
    }

    #[test]
    fn the_environment_is_completed_as_docker_does() {
        let command = built(&stage(&["sh"], &["A=1", "PATHX=2"]), b"KEY=s", true).expect("built");
        let got = env(&command);
        assert!(got.contains(&DEFAULT_PATH), "PATHX passed for PATH: {got:?}");
        for entry in ["A=1", "HOME=/home/a", "TERM=xterm", "KEY=s"] {
            assert!(got.contains(&entry), "{entry} is missing in {got:?}");
        }
        assert_eq!(command.cwd.as_c_str(), c"/");
        let own = built(&stage(&["sh"], &["PATH=/x", "HOME=/y"]), b"KEY=s", false).expect("built");
        let got = env(&own);
        assert!(got.contains(&"PATH=/x") && got.contains(&"HOME=/y"));
        assert!(!got.contains(&DEFAULT_PATH) && !got.contains(&"TERM=xterm"), "{got:?}");
    }

    #[test]
    fn what_cannot_be_executed_is_refused_before_a_fork() {
        assert!(matches!(built(&stage(&[], &[]), b"", false), Err(CommandError::Empty)));
        assert!(matches!(
            built(&stage(&["a\0b"], &[]), b"", false),
            Err(CommandError::Zero { .. })
        ));
        assert!(matches!(
            built(&stage(&["a"], &[]), b"KEY=\0", false),
            Err(CommandError::Zero { .. })
        ));
        let many = vec!["x"; MAX_ENTRIES + 1];
        assert!(matches!(
            built(&stage(&many, &[]), b"", false),
            Err(CommandError::TooMany { .. })
        ));
        let mut nobody = stage(&["a"], &[]);
        nobody.user = "nobody".to_owned();
        assert_eq!(built(&nobody, b"", false).err().map(|e| e.kind()), Some("bad_user"));
    }
}
