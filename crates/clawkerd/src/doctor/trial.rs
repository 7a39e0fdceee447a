//! A call that changes the process that makes it, made by another of this program: `clawkerd doctor --trial=NAME`.
//! It says on its standard output what it found, or on its standard error why it couldn't.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::process::{Command, Stdio};

use clawker_proc::signal::{self, SignalFd};
use clawker_proc::{harden, mark, memfd};

use crate::init::child;

/// Any that no limit stands at by chance.
const MARK: u32 = 271_828;

/// What is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trial {
    Signals,
    Undumpable,
    NoNewPrivs,
    CloseRange,
    /// Becomes this program once more, out of a memfd; that one is asked for its version.
    Upgrade,
    Mark,
    /// Says the mark that it was born with.
    Marked,
}

impl Trial {
    const ALL: [(&'static str, Trial); 7] = [
        ("signals", Trial::Signals),
        ("undumpable", Trial::Undumpable),
        ("no-new-privs", Trial::NoNewPrivs),
        ("close-range", Trial::CloseRange),
        ("upgrade", Trial::Upgrade),
        ("mark", Trial::Mark),
        ("marked", Trial::Marked),
    ];

    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, trial)| *trial)
    }

    /// Tries it in a process of its own.
    pub(super) fn start(self) -> io::Result<String> {
        let known = Self::ALL.iter().find(|(_, trial)| *trial == self);
        let name = known.map_or("", |(name, _)| *name);
        start_own(&["doctor", &format!("--trial={name}")])
    }

    /// Tries it here.
    pub fn run(self) -> io::Result<String> {
        match self {
            Trial::Signals => signals(),
            Trial::Undumpable => {
                harden::undumpable()?;
                match harden::is_dumpable()? {
                    false => Ok("no core dump, no tracer".to_owned()),
                    true => Err(io::Error::other("it stays dumpable")),
                }
            }
            Trial::NoNewPrivs => harden::no_new_privs().map(|()| "set".to_owned()),
            Trial::CloseRange => child::close_from(3).map(|()| "descriptors are closed by range".to_owned()),
            Trial::Upgrade => Err(upgrade()),
            Trial::Mark => marking(),
            Trial::Marked => {
                Ok(mark::of(std::process::id().cast_signed())?.map_or(String::new(), |mark| mark.to_string()))
            }
        }
    }
}

/// Another of this program, started as PID 1 starts its session half; what it says.
pub(super) fn start_own(args: &[&str]) -> io::Result<String> {
    let output = Command::new("/proc/self/exe")
        .args(args)
        .env_clear()
        // Of /dev/null it is asked elsewhere.
        .stdin(Stdio::piped())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("starting /proc/self/exe: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    match why.trim() {
        "" => Err(io::Error::other(format!("another of this program: {}", output.status))),
        why => Err(io::Error::other(why.trim_start_matches("clawkerd: ").to_owned())),
    }
}

/// PID 1's way of hearing of a signal.
fn signals() -> io::Result<String> {
    let signals = SignalFd::block_all()?;
    signal::kill(std::process::id().cast_signed(), libc::SIGUSR1)?;
    match signals.next()? {
        Some(libc::SIGUSR1) => Ok("a signal was blocked and read".to_owned()),
        other => Err(io::Error::other(format!("SIGUSR1 was sent, {other:?} was read"))),
    }
}

/// Returns only if it failed.
fn upgrade() -> io::Error {
    let exec = || {
        let own = std::fs::read("/proc/self/exe")?;
        let image = memfd::executable("clawker-doctor", &own)?;
        let args = [CString::new("clawkerd")?, CString::new("--version")?];
        Ok(child::exec_fd(image.as_fd().as_raw_fd(), &args))
    };
    let error: io::Error = exec().unwrap_or_else(|error| error);
    io::Error::new(error.kind(), format!("executing a memfd: {error}"))
}

/// Whether a process that is started from here is born with the mark.
fn marking() -> io::Result<String> {
    mark::set(MARK).map_err(|error| io::Error::new(error.kind(), format!("lowering RLIMIT_LOCKS: {error}")))?;
    let born = Trial::Marked.start()?;
    if born == MARK.to_string() {
        Ok("RLIMIT_LOCKS is kept, inherited and shown".to_owned())
    } else {
        Err(io::Error::other(format!("marked {MARK}, a child has `{born}`")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_trial_is_known_by_its_name() {
        for (name, trial) in Trial::ALL {
            assert_eq!(Trial::named(name), Some(trial));
        }
        assert_eq!(Trial::named("x"), None);
    }
}
