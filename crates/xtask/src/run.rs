//! Children, their exit codes and the signals that reach us.
//!
//! A child gets a process group of its own, and that group gets every SIGINT, SIGTERM and SIGHUP that we get, exactly
//! once, whether a terminal sent it to the foreground group or somebody to our pid. We then wait until it has cleaned
//! up.

use std::fmt;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What set-up should have provided is missing (sysexits' EX_UNAVAILABLE).
pub const UNMET: u8 = 69;
const INTERRUPTED_CODE: u8 = 130;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
/// The pid of the child that signals go to; 0 without one.
static CHILD: AtomicI32 = AtomicI32::new(0);

/// An end with an exit code of its own.
#[derive(Debug)]
pub struct Ended {
    pub code: u8,
    pub why: String,
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl std::error::Error for Ended {}

/// Something that the machine lacks: exit code 69.
pub fn unmet(why: impl Into<String>) -> anyhow::Error {
    Ended {
        code: UNMET,
        why: why.into(),
    }
    .into()
}

pub fn exit_code(error: &anyhow::Error) -> u8 {
    if interrupted() {
        return INTERRUPTED_CODE;
    }
    error.downcast_ref::<Ended>().map_or(1, |ended| ended.code)
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// An error once somebody asked us to stop.
pub fn check() -> Result<()> {
    if interrupted() {
        Err(Ended {
            code: INTERRUPTED_CODE,
            why: "interrupted".into(),
        }
        .into())
    } else {
        Ok(())
    }
}

pub fn watch_signals() -> Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]).context("watching for signals")?;
    std::thread::spawn(move || {
        for number in signals.forever() {
            INTERRUPTED.store(true, Ordering::SeqCst);
            let signal = match number {
                SIGINT => Signal::INT,
                SIGHUP => Signal::HUP,
                _ => Signal::TERM,
            };
            if let Some(child) = Pid::from_raw(CHILD.load(Ordering::SeqCst)) {
                // The child may just have ended; there is nobody to tell then.
                let _ = kill_process_group(child, signal);
            }
        }
    });
    Ok(())
}

/// Runs it to its end with our stdout and stderr and without input.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    check()?;
    let what = describe(command);
    let mut child: Child = command
        .stdin(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("starting `{what}`"))?;
    CHILD.store(i32::try_from(child.id()).unwrap_or(0), Ordering::SeqCst);
    let status = child.wait().with_context(|| format!("waiting for `{what}`"));
    CHILD.store(0, Ordering::SeqCst);
    status
}

/// Like [`status`]; anything but success is an error.
pub fn ok(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    check()?;
    anyhow::ensure!(status.success(), "`{}` ended with {status}", describe(command));
    Ok(())
}

/// Runs it in silence: its standard output, if it succeeded.
pub fn output(command: &mut Command) -> Result<String> {
    let what = describe(command);
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting `{what}`"))?;
    anyhow::ensure!(
        out.status.success(),
        "`{what}` ended with {}: {}",
        out.status,
        String::from_utf8_lossy(&out.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}

/// `apt-get install -y nftables`, for messages.
pub fn describe(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let mut words = vec![
        program
            .file_name()
            .unwrap_or(program.as_os_str())
            .to_string_lossy()
            .into_owned(),
    ];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}
