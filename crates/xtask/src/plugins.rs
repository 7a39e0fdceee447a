//! The plugins of this repository: compiled for wasm32-unknown-unknown, made into components, listed by digest.
//!
//! ```text
//! plugins/<name> ──cargo──► core module ──wit-component──► libexec/plugins/<name>.wasm ──► libexec/plugins/digests
//! ```
//!
//! The same sources and the same compiler give the same bytes wherever the repository and cargo's home lie, because
//! every path that could get into a component is remapped. What didn't change isn't written again, so that nothing
//! that depends on it is rebuilt.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};

use crate::project::Project;
use crate::{build, run, say, setup};

const TARGET: &str = "wasm32-unknown-unknown";
const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust";

/// Builds all of them into `libexec/plugins`.
pub fn build(project: &Project) -> Result<()> {
    let names = names(&project.root.join("plugins"))?;
    let modules = project.target.join("plugins").join(TARGET).join("release");
    say::timed("build", "the plugins", || {
        Toolchain::find()?.compile(project)?;
        let components = names
            .iter()
            .map(|name| Ok((format!("{name}.wasm"), component(&modules, name)?)))
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

/// Who compiles for WebAssembly.
enum Toolchain {
    /// The toolchain in use, which has the target.
    Own { sysroot: PathBuf },
    /// Debian's rustc-web, which builds the standard library along.
    Debian { linker: PathBuf },
}

impl Toolchain {
    fn find() -> Result<Self> {
        let sysroot = build::sysroot()?;
        if sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir() {
            return Ok(Self::Own { sysroot });
        }
        let debian = ["/usr/bin/cargo", "/usr/bin/rustc"]
            .iter()
            .all(|file| Path::new(file).is_file())
            && Path::new(DEBIAN_SOURCE).join("library/std/Cargo.toml").is_file();
        match setup::guest_linker() {
            Some(linker) if debian => Ok(Self::Debian { linker }),
            _ => Err(run::unmet(
                "nothing here compiles for wasm32-unknown-unknown: run `cargo xtask setup`, or `rustup target add wasm32-unknown-unknown`",
            )),
        }
    }

    fn compile(&self, project: &Project) -> Result<()> {
        let build_std: &[&str] = match self {
            Self::Own { .. } => &[],
            Self::Debian { .. } => &["-Zbuild-std=std,panic_abort"],
        };
        // First, because the flags name the folders that it makes.
        run::ok(
            self.cargo(project)
                .args(["fetch", "--locked", "--target", TARGET])
                .args(build_std),
        )?;
        run::ok(
            self.cargo(project)
                .args(["build", "--release", "--locked", "--target", TARGET])
                .args(build_std)
                .env("CARGO_ENCODED_RUSTFLAGS", self.flags(project)?.join("\u{1f}")),
        )
    }

    fn cargo(&self, project: &Project) -> Command {
        let mut cargo = match self {
            Self::Own { .. } => project.cargo(),
            Self::Debian { linker } => {
                let mut cargo = Command::new("/usr/bin/cargo");
                // What `cargo xtask` leaves in our environment is for another toolchain.
                for (name, _) in std::env::vars_os() {
                    let known = name.to_string_lossy();
                    let kept = [
                        "CARGO_HOME",
                        "CARGO_HTTP_",
                        "CARGO_NET_",
                        "CARGO_REGISTR",
                        "CARGO_SOURCE_",
                    ];
                    if known.starts_with("RUST")
                        || known.starts_with("CARGO") && !kept.iter().any(|kept| known.starts_with(kept))
                    {
                        cargo.env_remove(&name);
                    }
                }
                cargo
                    .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                cargo
            }
        };
        cargo
            .current_dir(project.root.join("plugins"))
            .env("CARGO_TARGET_DIR", project.target.join("plugins"))
            .env_remove("RUSTFLAGS");
        cargo
    }

    fn flags(&self, project: &Project) -> Result<Vec<String>> {
        let home = cargo_home()?;
        let mut remapped = vec![
            (project.root.clone(), "/clawker".to_owned()),
            (home.clone(), "/cargo".into()),
        ];
        // A mirror's folder has another name than the registry's own.
        if let Ok(registries) = fs::read_dir(home.join("registry/src")) {
            remapped.extend(registries.flatten().map(|entry| (entry.path(), "/registry".into())));
        }
        remapped.sort();
        match self {
            // Where a toolchain has its sources, paths into them stand for the compiler's own virtual ones.
            Self::Own { sysroot } => {
                remapped.push((sysroot.join("lib/rustlib/src/rust"), format!("/rustc/{}", commit()?)))
            }
            Self::Debian { .. } => {
                let source = PathBuf::from(DEBIAN_SOURCE);
                remapped.extend(source.canonicalize().ok().map(|real| (real, "/rust".into())));
                remapped.push((source, "/rust".into()));
            }
        }
        let flag = |(from, to): &(PathBuf, String)| format!("--remap-path-prefix={}={to}", from.display());
        let mut flags: Vec<String> = remapped.iter().map(flag).collect();
        if let Self::Debian { .. } = self {
            flags.push("-Clinker-flavor=wasm-ld".into());
        }
        Ok(flags)
    }
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return std::path::absolute(home).context("reading CARGO_HOME");
    }
    let home = std::env::home_dir().context("finding the home folder, for cargo's registry")?;
    Ok(home.join(".cargo"))
}

/// The commit that the toolchain in use was made from.
fn commit() -> Result<String> {
    let version = run::output(Command::new("rustc").arg("-vV"))?;
    let hash = version.lines().find_map(|line| line.strip_prefix("commit-hash: "));
    Ok(hash.unwrap_or("unknown").to_owned())
}

fn component(modules: &Path, name: &str) -> Result<Vec<u8>> {
    let path = modules.join(format!("{}.wasm", name.replace('-', "_")));
    let module = fs::read(&path).with_context(|| format!("reading {}", path.display()))?;
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .and_then(|mut encoder| encoder.encode())
        .with_context(|| format!("making a component of {}", path.display()))
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
