//! A project into a component, whatever it is written in.

use std::path::Path;

use crate::project::{Language, Package, PluginToml};
use crate::{Error, error, rust};

pub use crate::rust::Options;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package's name, which the file gets.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Builds the project in `dir`.
pub fn project(dir: &Path, options: Options) -> Result<Built, Error> {
    let said = PluginToml::read(dir)?;
    let Language::Rust = said.plugin.language;
    let package = Package::of(dir)?;
    let bytes = rust::build(dir, &package, options)?;
    Ok(Built {
        name: package.name,
        bytes,
    })
}

/// Puts a component at its place, whole or not at all.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io("making", dir))?;
    }
    error::place(file, bytes)
}
