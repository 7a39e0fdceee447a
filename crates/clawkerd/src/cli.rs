//! The command line, which is all of clawkerd's configuration: nothing comes from environment or image.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::init::Options;

/// `EX_CONFIG`: the command line, or the place in which it was started, is wrong.
pub const MISCONFIGURED: u8 = 78;
/// `EX_TEMPFAIL`: no control plane came before the deadline of `--on-absent=await:<seconds>`.
pub const NO_CONTROL_PLANE: u8 = 75;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    Version { json: bool },
    Init(Options),
    Session,
}

/// What PID 1 does while no control plane has come in this start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnAbsent {
    /// Wait; with a deadline, exit 75 after it.
    Await(Option<Duration>),
}

/// What PID 1 does when its lease has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanAction {
    Continue,
    Freeze,
    Stop,
}

/// The action, and the lease that is taken for one when the control plane names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OnOrphan {
    pub action: OrphanAction,
    pub after: Duration,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CliError {
    #[error(
        "usage: clawkerd init [--on-absent=await[:SECONDS]] [--on-orphan=continue|freeze|stop[:SECONDS]] -- COMMAND…"
    )]
    Usage,
    #[error("`{0}` is not an option of clawkerd")]
    Unknown(String),
    #[error("`{option}={value}`: expected {expected}")]
    Value {
        option: &'static str,
        value: String,
        expected: &'static str,
    },
}

/// Parses the arguments after the program's name.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, CliError> {
    let mut args = args.into_iter().map(|arg| arg.to_string_lossy().into_owned());
    match args.next().as_deref() {
        Some("--version") => match (args.next().as_deref(), args.next()) {
            (None, _) => Ok(Invocation::Version { json: false }),
            (Some("--json"), None) => Ok(Invocation::Version { json: true }),
            (Some(other), _) => Err(CliError::Unknown(other.to_owned())),
        },
        Some("session") => Ok(Invocation::Session),
        Some("init") => parse_init(args).map(Invocation::Init),
        Some(other) => Err(CliError::Unknown(other.to_owned())),
        None => Err(CliError::Usage),
    }
}

/// The text of `--version`.
pub fn version(json: bool) -> String {
    if json {
        format!(
            r#"{{"name":"clawkerd","version":"{}","protocol":{}}}"#,
            env!("CARGO_PKG_VERSION"),
            clawker_wire::PROTOCOL
        )
    } else {
        crate::BUILD.to_owned()
    }
}

fn parse_init(mut args: impl Iterator<Item = String>) -> Result<Options, CliError> {
    let mut options = Options::default();
    loop {
        let Some(arg) = args.next() else {
            return Err(CliError::Usage);
        };
        if arg == "--" {
            // The command stands there for whoever looks at the container; what runs comes with AgentReady.
            return Ok(options);
        } else if let Some(value) = arg.strip_prefix("--on-absent=") {
            options.on_absent = on_absent(value)?;
        } else if let Some(value) = arg.strip_prefix("--on-orphan=") {
            options.on_orphan = on_orphan(value)?;
        } else if let Some(value) = arg.strip_prefix("--run-dir=") {
            // For tests, which have no container around them.
            options.run_dir = PathBuf::from(value);
        } else {
            return Err(CliError::Unknown(arg));
        }
    }
}

fn on_absent(value: &str) -> Result<OnAbsent, CliError> {
    let error = || CliError::Value {
        option: "--on-absent",
        value: value.to_owned(),
        expected: "await or await:SECONDS",
    };
    match value.split_once(':') {
        None if value == "await" => Ok(OnAbsent::Await(None)),
        Some(("await", after)) => Ok(OnAbsent::Await(Some(seconds(after).ok_or_else(error)?))),
        _ => Err(error()),
    }
}

fn on_orphan(value: &str) -> Result<OnOrphan, CliError> {
    let error = || CliError::Value {
        option: "--on-orphan",
        value: value.to_owned(),
        expected: "continue, freeze or stop, each with or without :SECONDS",
    };
    let (name, after) = match value.split_once(':') {
        Some((name, after)) => (name, seconds(after).ok_or_else(error)?),
        None => (value, DEFAULT_LEASE),
    };
    let action = match name {
        "continue" => OrphanAction::Continue,
        "freeze" => OrphanAction::Freeze,
        "stop" => OrphanAction::Stop,
        _ => return Err(error()),
    };
    Ok(OnOrphan { action, after })
}

/// 1 s to a year.
fn seconds(text: &str) -> Option<Duration> {
    let seconds: u64 = text.parse().ok()?;
    (1..=31_536_000)
        .contains(&seconds)
        .then(|| Duration::from_secs(seconds))
}

const DEFAULT_LEASE: Duration = Duration::from_secs(120);

impl Default for OnOrphan {
    fn default() -> Self {
        Self {
            action: OrphanAction::Freeze,
            after: DEFAULT_LEASE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(args: &[&str]) -> Result<Invocation, CliError> {
        parse(args.iter().map(OsString::from))
    }

    fn init(args: &[&str]) -> Options {
        match parsed(args) {
            Ok(Invocation::Init(options)) => options,
            other => panic!("{args:?} gave {other:?}"),
        }
    }

    #[test]
    fn the_defaults_await_for_ever_and_freeze_after_two_minutes() {
        let options = init(&["init", "--", "sh"]);
        assert_eq!(options.on_absent, OnAbsent::Await(None));
        assert_eq!(options.on_orphan.action, OrphanAction::Freeze);
        assert_eq!(options.on_orphan.after, Duration::from_secs(120));
        assert_eq!(options.run_dir, PathBuf::from("/.clawker-run"));
    }

    #[test]
    fn options_are_read() {
        let options = init(&["init", "--on-absent=await:5", "--on-orphan=stop:30", "--"]);
        assert_eq!(options.on_absent, OnAbsent::Await(Some(Duration::from_secs(5))));
        assert_eq!(options.on_orphan.action, OrphanAction::Stop);
        assert_eq!(options.on_orphan.after, Duration::from_secs(30));
        assert_eq!(parsed(&["--version", "--json"]), Ok(Invocation::Version { json: true }));
    }

    #[test]
    fn anything_else_is_an_error_that_names_it() {
        for bad in [
            &["init"][..],
            &["init", "sh"],
            &["init", "--on-absent=wait", "--"],
            &["init", "--on-absent=await:0", "--"],
            &["init", "--on-orphan=thaw", "--"],
            &["init", "--on-orphan=stop:x", "--"],
            &["init", "--verbose", "--"],
            &["--version", "--yaml"],
            &["shell"],
            &[],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?} was accepted");
        }
        let error = parsed(&["init", "--on-orphan=thaw", "--"]).expect_err("refused");
        assert!(error.to_string().contains("--on-orphan=thaw"), "{error}");
    }
}
