//! Waiting: a condition that is polled until it holds or a deadline is over.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes everything that waits end with an error: somebody asked this program to stop.
pub fn interrupt() {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

pub fn interrupted() -> bool {
    INTERRUPTED.load(Ordering::SeqCst)
}

/// How long a thing may take that should take less than a second: the machine may be busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(25);

/// Polls until `look` gives something. An error of `look` is the last one's, told when the deadline is over.
pub fn until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let why = match look() {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => String::new(),
            Err(error) => format!(": {error:#}"),
        };
        if interrupted() {
            bail!("interrupted while waiting for {what}");
        }
        if Instant::now() >= deadline {
            bail!("waited {} s for {what}, in vain{why}", patience.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// Polls until `holds` is true.
pub fn until_true(what: &str, patience: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    until(what, patience, || Ok(holds()?.then_some(())))
}

/// Watches for `span` that `holds` stays true: for what must not happen. No substitute for waiting.
pub fn throughout(what: &str, span: Duration, mut holds: impl FnMut() -> Result<bool>) -> Result<()> {
    let end = Instant::now() + span;
    while Instant::now() < end {
        if !holds()? {
            bail!("{what} did not last");
        }
        std::thread::sleep(POLL);
    }
    Ok(())
}
