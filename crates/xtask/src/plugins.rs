//! The plugins of this repository: compiled for wasm32-unknown-unknown, made into components, listed by digest.
//!
//! ```text
//! plugins/<name> ──clawker-plugin-build──► libexec/plugins/<name>.wasm ──► libexec/plugins/digests
//! ```
//!
//! What didn't change isn't written again, so that nothing that depends on it is rebuilt.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use clawker_plugin_build::{Error, Toolchain, Work, component};
use sha2::{Digest, Sha256};

use crate::project::Project;
use crate::{run, say};

/// Builds all of them into `libexec/plugins`.
pub fn build(project: &Project) -> Result<()> {
    let names = names(&project.root.join("plugins"))?;
    let work = Work {
        dir: project.root.join("plugins"),
        target: project.target.join("plugins"),
        root: (project.root.clone(), "/clawker".into()),
        package: None,
        locked: true,
        quiet: false,
    };
    say::timed("build", "the plugins", || {
        let toolchain = Toolchain::find().map_err(|error| match error {
            Error::NoToolchain => run::unmet(format!("run `cargo xtask setup`: {error}")),
            error => error.into(),
        })?;
        toolchain.compile(&work, run::ok)?;
        let components = names
            .iter()
            .map(|name| Ok((format!("{name}.wasm"), component(&work.module(name))?)))
            .collect::<Result<Vec<_>>>()?;
        install(&project.libexec().join("plugins"), &components)
    })
}

/// Folders with a manifest, sorted. The SDK is in there too, as a link.
fn names(dir: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("listing {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() && entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Makes `dir` hold exactly these components and a list of their digests.
fn install(dir: &Path, components: &[(String, Vec<u8>)]) -> Result<()> {
    fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
    let mut digests = String::new();
    for (file, bytes) in components {
        let hex: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        digests.push_str(&format!("{hex}  {file}\n"));
        place(&dir.join(file), bytes)?;
    }
    place(&dir.join("digests"), digests.as_bytes())?;
    for entry in fs::read_dir(dir)? {
        let (path, name) = entry.map(|entry| (entry.path(), entry.file_name()))?;
        if name != "digests" && !components.iter().any(|(file, _)| name == file.as_str()) {
            fs::remove_file(&path).with_context(|| format!("removing {}", path.display()))?;
        }
    }
    Ok(())
}

/// Whole or not at all, and only if it is another.
fn place(path: &Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let beside = path.with_added_extension("new");
    fs::write(&beside, bytes).with_context(|| format!("writing {}", beside.display()))?;
    fs::rename(&beside, path).with_context(|| format!("renaming into {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_change_is_not_written_and_what_is_not_meant_goes() {
        let dir = tempfile::tempdir().expect("folder");
        let dir = dir.path().join("plugins");
        let component = |file: &str| (file.to_owned(), b"x".to_vec());
        install(&dir, &[component("a.wasm"), component("b.wasm")]).expect("installs");
        let long_ago = std::time::SystemTime::UNIX_EPOCH;
        let set = |file: &str| {
            let file = fs::File::options().append(true).open(dir.join(file)).expect("there");
            file.set_modified(long_ago).expect("sets the time");
        };
        set("a.wasm");
        set("digests");
        install(&dir, &[component("a.wasm")]).expect("installs");
        let modified = |file: &str| fs::metadata(dir.join(file)).and_then(|there| there.modified());
        assert_eq!(modified("a.wasm").expect("there"), long_ago);
        assert_ne!(modified("digests").expect("there"), long_ago);
        assert!(modified("b.wasm").is_err());
        let digests = fs::read_to_string(dir.join("digests")).expect("there");
        assert_eq!(
            digests,
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881  a.wasm\n"
        );
    }

    #[test]
    fn the_sdk_is_no_plugin() {
        let names = names(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../plugins")).expect("lists");
        assert!(
            names.contains(&"egress-guard".to_owned()) && !names.contains(&"sdk".to_owned()),
            "{names:?}"
        );
    }
}
