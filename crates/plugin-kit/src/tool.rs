//! Other people's programs that build plugins.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use clawker_plugin_build::which;

use crate::Error;

/// Runs it to its end; it has to go well. `what` is its name for people.
pub(crate) fn run(command: &mut Command, what: &str, quiet: bool) -> Result<(), Error> {
    // Results are our stdout's.
    let stdout = match quiet {
        true => Stdio::null(),
        false => std::io::stderr().into(),
    };
    let ended = command.stdin(Stdio::null()).stdout(stdout).status();
    let ended = ended.map_err(|error| Error::Io {
        doing: format!("starting `{what}` (is it installed?)"),
        error,
    })?;
    match ended.success() {
        true => Ok(()),
        false => Err(Error::Cargo {
            what: what.to_owned(),
            how: ended.to_string(),
        }),
    }
}

/// A program on the path.
pub(crate) fn on_path(name: &str) -> Option<PathBuf> {
    which(name, [])
}
