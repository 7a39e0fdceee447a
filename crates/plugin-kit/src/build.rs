//! A project into a component, whatever it is written in.

use std::path::Path;

use clawker_plugin_host::{Kind, Plugin};
use clawker_plugin_package::{self as package, Asked, Manifest};

use crate::project::{Language, Package, PluginToml};
use crate::{Error, Sandbox, error, python, rust};

pub use crate::rust::Options;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package's name, which the file gets.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Builds the project in `dir`: the code, which is asked what it is, and its manifest in it.
pub fn project(dir: &Path, options: Options) -> Result<Built, Error> {
    let said = PluginToml::read(dir)?;
    let (name, code) = match said.plugin.language {
        Language::Rust => {
            let package = Package::of(dir)?;
            let code = rust::build(dir, &package, options)?;
            (package.name, code)
        }
        Language::Python => {
            let code = python::build(dir, &said, options.quiet)?;
            (said.plugin.name.clone().unwrap_or_default(), code)
        }
    };
    let manifest = manifest(&Sandbox::load(&code)?.plugin, &said)?;
    let bytes = manifest.embed(&code)?;
    Ok(Built { name, bytes })
}

/// What the code says of itself, and the author of it.
fn manifest(plugin: &Plugin, said: &PluginToml) -> Result<Manifest, Error> {
    let kind = match plugin.kind {
        Kind::Policy => package::Kind::Policy,
        Kind::Step => package::Kind::Step,
    };
    if said.plugin.kind != kind.word() {
        let problem = format!("plugin.toml says `{}`, the code is a {}", said.plugin.kind, kind.word());
        return Err(Error::Project(problem));
    }
    let unused: Vec<&String> = said
        .asks
        .keys()
        .filter(|asked| !plugin.imports.contains(asked))
        .collect();
    if let Some(unused) = unused.first() {
        return Err(Error::Project(format!(
            "plugin.toml bounds `{unused}`, which the code never uses: leave it out"
        )));
    }
    let mut manifest = Manifest::new(&plugin.name, &plugin.version, kind, plugin.imports.iter().cloned());
    manifest.description.clone_from(&said.plugin.description);
    manifest.license.clone_from(&said.plugin.license);
    manifest.homepage.clone_from(&said.plugin.homepage);
    said.plugin.language.word().clone_into(&mut manifest.language);
    manifest.asks.clone_from(&said.asks);
    manifest.limits = Asked {
        memory: said.limits.memory,
        fuel: said.limits.fuel,
        wall: None,
    };
    Ok(manifest)
}

/// Puts a component at its place, whole or not at all.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir).map_err(Error::io("making", dir))?;
    }
    error::place(file, bytes)
}
