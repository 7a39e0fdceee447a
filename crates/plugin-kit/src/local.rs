//! A plugin on this machine: a component, or the folder of a project that was built, with the signature beside it.

use std::path::{Path, PathBuf};

use clawker_plugin_package::MAX_SIGNATURE;

use crate::error::read_bytes;
use crate::{Error, sandbox};

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub file: PathBuf,
    pub component: Vec<u8>,
    /// `<file>.sig`, if it is there.
    pub signature: Option<Vec<u8>>,
}

/// Reads the component in `path`, or the one in the project there.
pub fn read(path: &Path) -> Result<Found, Error> {
    let file = match path.is_dir() {
        true => only_component(path)?,
        false => path.to_owned(),
    };
    let component = sandbox::read(&file)?;
    let signature = file.with_added_extension("sig");
    let signature = match signature.exists() {
        true => Some(read_bytes(&signature, MAX_SIGNATURE as u64)?),
        false => None,
    };
    Ok(Found {
        file,
        component,
        signature,
    })
}

fn only_component(dir: &Path) -> Result<PathBuf, Error> {
    let entries = std::fs::read_dir(dir).map_err(Error::io("listing", dir))?;
    let mut components: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "wasm"))
        .collect();
    match (components.pop(), components.len()) {
        (Some(component), 0) => Ok(component),
        (None, _) => Err(Error::Project(format!(
            "there is no component in {}: `clawker plugin build` makes one",
            dir.display()
        ))),
        _ => Err(Error::Project(format!(
            "there are several components in {}: name one",
            dir.display()
        ))),
    }
}
