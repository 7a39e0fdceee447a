//! A project into a component, whatever it is written in.

use std::path::Path;

use clawker_plugin_host::{Form, Kind, inspect};
use clawker_plugin_package::{self as package, Asked, Manifest};

use crate::project::{Language, Package, PluginToml};
use crate::{Error, Sandbox, error, javascript, python, rust};

pub use crate::rust::Options;

/// What was built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The package's name, which the file gets.
    pub name: String,
    pub bytes: Vec<u8>,
}

/// Builds the project in `dir`: the code with its manifest in it. Loading it compares both.
pub fn project(dir: &Path, options: Options) -> Result<Built, Error> {
    let said = PluginToml::read(dir)?;
    let (name, code, says) = match said.plugin.language {
        Language::Rust => {
            let package = Package::of(dir)?;
            let code = rust::build(dir, &package, options)?;
            // The code may call itself something else than its package is called.
            let plugin = Sandbox::load(&code)?.plugin;
            (package.name, code, (plugin.name.clone(), plugin.version.clone()))
        }
        // Compiling an interpreter takes seconds, so it isn't asked: these have both from plugin.toml.
        Language::Python => named(&said, python::build(dir, &said, options.quiet)?)?,
        Language::JavaScript => named(&said, javascript::build(dir, &said, options.quiet)?)?,
    };
    let bytes = manifest(&says, inspect(&code)?, &said)?.embed(&code)?;
    Ok(Built { name, bytes })
}

type Said = (String, String);

fn named(said: &PluginToml, code: Vec<u8>) -> Result<(String, Vec<u8>, Said), Error> {
    let (name, version) = said.named()?;
    Ok((name.to_owned(), code, (name.to_owned(), version.to_owned())))
}

/// What the code says of itself, and the author of it.
fn manifest((name, version): &Said, form: Form, said: &PluginToml) -> Result<Manifest, Error> {
    let kind = match form.kind {
        Kind::Policy => package::Kind::Policy,
        Kind::Step => package::Kind::Step,
    };
    if said.plugin.kind != kind.word() {
        let problem = format!("plugin.toml says `{}`, the code is a {}", said.plugin.kind, kind.word());
        return Err(Error::Project(problem));
    }
    let unused: Vec<&String> = said.asks.keys().filter(|asked| !form.imports.contains(asked)).collect();
    if let Some(unused) = unused.first() {
        return Err(Error::Project(format!(
            "plugin.toml bounds `{unused}`, which the code never uses: leave it out"
        )));
    }
    let mut manifest = Manifest::new(name, version, kind, form.imports);
    manifest.description.clone_from(&said.plugin.description);
    manifest.license.clone_from(&said.plugin.license);
    manifest.homepage.clone_from(&said.plugin.homepage);
    said.plugin.language.word().clone_into(&mut manifest.language);
    manifest.asks.clone_from(&said.asks);
    manifest.limits = Asked {
        memory: said.limits.memory,
        fuel: said.limits.fuel,
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
