//! A component that is on this machine: a file, a project's folder, or a path in the Nix store.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clawker_model::PluginDigest;
use serde::Deserialize;

use crate::error::plain;
use crate::file::{aside, read, read_if_there};
use crate::options::{expect_digest, fetched};
use crate::reference::LocalReference;
use crate::{Fetched, MAX_COMPONENT, MAX_SIGNATURE, Options, SourceError};

/// Bytes of a `plugin.toml` or `Cargo.toml`.
const MAX_TOML: u64 = 64 << 10;
/// Entries of a folder that are looked at.
const MAX_ENTRIES: usize = 10_000;

pub(crate) async fn fetch(local: &LocalReference, options: &Options) -> Result<Fetched, SourceError> {
    let (wanted, store) = (local.sha256.clone(), options.nix_store.clone());
    aside(local.path.clone(), move |path| fetch_now(path, wanted.as_ref(), &store)).await
}

fn fetch_now(path: &Path, wanted: Option<&PluginDigest>, store: &Path) -> Result<Fetched, SourceError> {
    let found = path.canonicalize().map_err(|source| SourceError::Io {
        doing: "finding",
        path: path.to_owned(),
        source,
    })?;
    let (file, found) = if found.is_dir() {
        let file = in_folder(&found, store)?;
        (file.clone(), file)
    } else {
        // The signature is beside what was typed, be it a symlink.
        (path.to_owned(), found)
    };
    let component = read("reading the component", &file, MAX_COMPONENT)?;
    let what = file.display().to_string();
    if let Some(wanted) = wanted {
        expect_digest(&what, &component, wanted)?;
    }
    let mut beside = OsString::from(&file);
    beside.push(".sig");
    let signature = read_if_there("reading the signature", Path::new(&beside), MAX_SIGNATURE)?;
    fetched(&what, component, signature, |digest| {
        LocalReference::pinned(&found, digest)
    })
}

/// The one component that a folder stands for.
fn in_folder(dir: &Path, store: &Path) -> Result<PathBuf, SourceError> {
    if dir.join("plugin.toml").is_file() {
        return in_project(dir);
    }
    let none = |problem: &str| SourceError::NoComponent {
        dir: dir.to_owned(),
        problem: problem.to_owned(),
    };
    // The store may itself be a symlink.
    let store = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    if !dir.starts_with(&store) {
        return Err(none(
            "it is no project (without plugin.toml) and no path of the Nix store",
        ));
    }
    for folder in [dir.join("lib/clawker/plugins"), dir.to_owned()] {
        if let Some(file) = only_component(&folder)? {
            return Ok(file);
        }
    }
    Err(none("neither lib/clawker/plugins in it nor itself has a .wasm"))
}

fn in_project(dir: &Path) -> Result<PathBuf, SourceError> {
    let none = |problem: String| SourceError::NoComponent {
        dir: dir.to_owned(),
        problem,
    };
    match name_of_project(dir)? {
        Some(name) => {
            let file = format!("{name}.wasm");
            let path = dir.join(&file);
            if path.is_file() {
                Ok(path)
            } else {
                Err(none(format!("no {file}; `clawker plugin build` makes it")))
            }
        }
        None => {
            only_component(dir)?.ok_or_else(|| none("no .wasm; `clawker plugin build` makes it, as <name>.wasm".into()))
        }
    }
}

/// A name in any of the files that a project has one in.
#[derive(Deserialize)]
struct Named {
    #[serde(alias = "package")]
    plugin: Option<Section>,
}

#[derive(Deserialize)]
struct Section {
    name: Option<String>,
}

fn name_of_project(dir: &Path) -> Result<Option<String>, SourceError> {
    for file in ["plugin.toml", "Cargo.toml"] {
        let path = dir.join(file);
        let Some(bytes) = read_if_there("reading", &path, MAX_TOML)? else {
            continue;
        };
        let what = path.display().to_string();
        let text = String::from_utf8(bytes).map_err(|_| SourceError::malformed(&what, "this is not UTF-8"))?;
        let named: Named = toml::from_str(&text).map_err(|error| SourceError::malformed(&what, error.message()))?;
        if let Some(name) = named.plugin.and_then(|section| section.name) {
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
            if plain && !name.is_empty() && name.len() <= 64 {
                return Ok(Some(name));
            }
            return Err(SourceError::malformed(
                &what,
                format!("`{name:.80}` is no plugin's name"),
            ));
        }
    }
    Ok(None)
}

/// The only `.wasm` of a folder; nothing where there is none, or no folder.
fn only_component(dir: &Path) -> Result<Option<PathBuf>, SourceError> {
    let io = |source| SourceError::Io {
        doing: "listing",
        path: dir.to_owned(),
        source,
    };
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let mut found = Vec::new();
    for entry in entries.take(MAX_ENTRIES) {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == "wasm") {
            found.push(path);
        }
    }
    found.sort();
    if found.len() > 1 {
        return Err(SourceError::Several {
            what: dir.display().to_string(),
            found: found.iter().take(20).map(|path| plain(path.display())).collect(),
        });
    }
    Ok(found.pop())
}
