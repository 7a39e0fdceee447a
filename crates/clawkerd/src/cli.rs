//! The command line, which is all of clawkerd's configuration: nothing comes from environment or image.

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clawker_model::OnAbsent;
use clawker_model::absence::BadWord;
use clawker_wire::defaults::DefaultsError;

use crate::doctor::Trial;
use crate::halves::ReadySpec;
use crate::init::Options;
use crate::session::convert;

/// `EX_CONFIG`: the command line, or the place in which it was started, is wrong.
pub const MISCONFIGURED: u8 = 78;
/// `EX_TEMPFAIL`: no control plane came before the deadline of `--on-absent=await:<seconds>`.
pub const NO_CONTROL_PLANE: u8 = 75;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invocation {
    Version {
        json: bool,
    },
    Doctor {
        json: bool,
    },
    /// What the doctor tries in a process of its own.
    Trial(Trial),
    Init(Options),
    /// PID 1 speaks this version of the internal wire.
    Session {
        wire: u8,
    },
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CliError {
    #[error(
        "usage: clawkerd init [--on-absent=await[:SECONDS]|defaults:SECONDS] \
         [--on-orphan=continue|freeze|stop[:SECONDS]] [--defaults=BASE64] [--join=FILE] -- COMMAND…\n       \
         clawkerd doctor [--json]\n       clawkerd --version [--json]"
    )]
    Usage,
    #[error("`{0}` is not an option of clawkerd")]
    Unknown(String),
    #[error("{option}={error}")]
    Word { option: &'static str, error: BadWord },
    #[error("--defaults: {0}")]
    Defaults(#[from] DefaultsError),
    #[error("--on-absent=defaults and --defaults go together")]
    Alone,
    #[error("--join and --on-absent=defaults exclude each other: what joins late would find the command running")]
    Late,
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
        Some("doctor") => match (args.next().as_deref(), args.next()) {
            (None, _) => Ok(Invocation::Doctor { json: false }),
            (Some("--json"), None) => Ok(Invocation::Doctor { json: true }),
            (Some(other), None) => {
                let trial = other.strip_prefix("--trial=").and_then(Trial::named);
                trial
                    .map(Invocation::Trial)
                    .ok_or_else(|| CliError::Unknown(other.to_owned()))
            }
            (Some(_), Some(other)) => Err(CliError::Unknown(other)),
        },
        Some("session") => {
            let wire = args.next();
            let wire = wire.as_deref().and_then(|arg| arg.strip_prefix("--wire="));
            let wire = wire.and_then(|version| version.parse().ok()).ok_or(CliError::Usage)?;
            Ok(Invocation::Session { wire })
        }
        Some("init") => parse_init(args).map(Invocation::Init),
        Some(other) => Err(CliError::Unknown(other.to_owned())),
        None => Err(CliError::Usage),
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
            let wanted = matches!(options.on_absent, OnAbsent::Defaults { .. });
            return match options.defaults.is_some() == wanted {
                true if wanted && options.join.is_some() => Err(CliError::Late),
                true => Ok(options),
                false => Err(CliError::Alone),
            };
        } else if let Some(value) = arg.strip_prefix("--on-absent=") {
            options.on_absent = word("--on-absent", value)?;
        } else if let Some(value) = arg.strip_prefix("--on-orphan=") {
            options.on_orphan = word("--on-orphan", value)?;
        } else if let Some(value) = arg.strip_prefix("--defaults=") {
            options.defaults = Some(defaults(value)?);
        } else if let Some(value) = arg.strip_prefix("--join=") {
            options.join = Some(PathBuf::from(value));
        } else if let Some(value) = arg.strip_prefix("--run-dir=") {
            // For tests, which have no container around them.
            options.run_dir = PathBuf::from(value);
        } else if let Some(value) = arg
            .strip_prefix("--count-allocations=")
            .filter(|_| cfg!(debug_assertions))
        {
            options.count_allocations = Some(PathBuf::from(value));
        } else {
            return Err(CliError::Unknown(arg));
        }
    }
}

/// A word of the model's, or what is wrong with it.
fn word<T: FromStr<Err = BadWord>>(option: &'static str, value: &str) -> Result<T, CliError> {
    value.parse().map_err(|error| CliError::Word { option, error })
}

fn defaults(value: &str) -> Result<Box<ReadySpec>, CliError> {
    let ready = clawker_wire::defaults::decode(value)?;
    let spec = convert::ready(ready).ok_or(DefaultsError::NoCommand)?;
    Ok(Box::new(spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clawker_model::OnOrphan;
    use clawker_wire::session::{AgentReady, Main};
    use std::time::Duration;

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
        assert_eq!(options.on_absent, OnAbsent::Await { deadline_s: None });
        assert_eq!(options.on_orphan.action, OnOrphan::Freeze);
        assert_eq!(options.lease(), Duration::from_secs(120));
        assert_eq!(options.run_dir, PathBuf::from("/.clawker-run"));
    }

    #[test]
    fn options_are_read() {
        let options = init(&["init", "--on-absent=await:5", "--on-orphan=stop:30", "--"]);
        assert_eq!(options.on_absent, OnAbsent::Await { deadline_s: Some(5) });
        assert_eq!(options.on_orphan.action, OnOrphan::Stop);
        assert_eq!(options.lease(), Duration::from_secs(30));
        assert_eq!(options.join, None);
        assert_eq!(init(&["init", "--join=/j", "--"]).join, Some(PathBuf::from("/j")));
        assert_eq!(parsed(&["session", "--wire=3"]), Ok(Invocation::Session { wire: 3 }));
        assert_eq!(parsed(&["doctor"]), Ok(Invocation::Doctor { json: false }));
        assert_eq!(parsed(&["doctor", "--json"]), Ok(Invocation::Doctor { json: true }));
        assert_eq!(parsed(&["doctor", "--trial=mark"]), Ok(Invocation::Trial(Trial::Mark)));
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
            &["doctor", "--yaml"],
            &["doctor", "--trial=x"],
            &["doctor", "--json", "--json"],
            &["shell"],
            &["session"],
            &["session", "--wire=x"],
            &[],
        ] {
            assert!(parsed(bad).is_err(), "{bad:?} was accepted");
        }
        let error = parsed(&["init", "--on-orphan=thaw", "--"]).expect_err("refused");
        assert!(error.to_string().contains("--on-orphan=`thaw`"), "{error}");
    }

    #[test]
    fn defaults_come_with_their_command_and_only_where_they_are_wanted() {
        let ready = AgentReady {
            main: Some(Main {
                argv: vec!["sh".into()],
                ..Main::default()
            }),
            ..AgentReady::default()
        };
        let defaults = format!("--defaults={}", clawker_wire::defaults::encode(&ready).expect("small"));
        let options = init(&["init", "--on-absent=defaults:7", &defaults, "--", "sh"]);
        assert_eq!(options.on_absent, OnAbsent::Defaults { after_s: 7 });
        assert_eq!(options.defaults.expect("there").main.argv, ["sh"]);
        for (bad, named) in [
            (&["init", "--on-absent=defaults:7", "--"][..], "go together"),
            (&["init", &defaults, "--"], "go together"),
            (&["init", "--on-absent=defaults:7", "--defaults=%", "--"], "--defaults"),
            (
                &["init", "--on-absent=defaults:7", &defaults, "--join=/j", "--"],
                "exclude each other",
            ),
        ] {
            let error = parsed(bad).expect_err("refused").to_string();
            assert!(error.contains(named), "{bad:?}: {error}");
        }
    }
}
