//! Who compiles for WebAssembly, and the commands that do it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Error, TARGET, Work, rustc};

const DEBIAN_SOURCE: &str = "/usr/lib/rustlib/src/rust";

/// Variables of cargo's that say where crates come from; the others are meant for another toolchain.
const KEPT: [&str; 5] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
];

/// What `cargo run` tells its child about the package that it ran. Build scripts that watch those would run anew each
/// time that a person alternates between two ways of building.
const LEAKED: [&str; 5] = [
    "CARGO",
    "CARGO_MANIFEST_DIR",
    "CARGO_MANIFEST_PATH",
    "CARGO_CRATE_NAME",
    "CARGO_BIN_NAME",
];

/// Who compiles for WebAssembly.
#[derive(Debug, Clone)]
pub enum Toolchain {
    /// The toolchain in use, which has the target.
    Own { sysroot: PathBuf },
    /// Debian's rustc-web, which builds the standard library along.
    Debian { linker: PathBuf },
}

impl Toolchain {
    /// The toolchain in use if it has the target, else Debian's if it is there.
    pub fn find() -> Result<Self, Error> {
        let own = rustc::sysroot();
        if let Ok(sysroot) = &own
            && sysroot.join("lib/rustlib").join(TARGET).join("lib").is_dir()
        {
            return Ok(Self::Own {
                sysroot: sysroot.clone(),
            });
        }
        let debian = ["/usr/bin/cargo", "/usr/bin/rustc"]
            .iter()
            .all(|file| Path::new(file).is_file())
            && Path::new(DEBIAN_SOURCE).join("library/std/Cargo.toml").is_file();
        match rustc::guest_linker() {
            Some(linker) if debian => Ok(Self::Debian { linker }),
            _ => own.and(Err(Error::NoToolchain)),
        }
    }

    /// Compiles; `run` starts a command and reports an end that isn't a success.
    pub fn compile<E: From<Error>>(
        &self,
        work: &Work,
        mut run: impl FnMut(&mut Command) -> Result<(), E>,
    ) -> Result<(), E> {
        // First, because the flags name the folders that it makes.
        let mut fetch = self.cargo(work, "fetch");
        run(&mut fetch)?;
        let mut build = self.cargo(work, "build");
        build.arg("--release");
        if let Some(package) = &work.package {
            build.args(["--package", package]);
        }
        build.env("CARGO_ENCODED_RUSTFLAGS", self.flags(work)?.join("\u{1f}"));
        run(&mut build)
    }

    fn cargo(&self, work: &Work, verb: &str) -> Command {
        let mut cargo = match self {
            Self::Own { .. } => cargo(),
            Self::Debian { linker } => {
                let mut cargo = Command::new("/usr/bin/cargo");
                forget(&mut cargo, |name| {
                    name.starts_with("RUST")
                        || name.starts_with("CARGO") && !KEPT.iter().any(|kept| name.starts_with(kept))
                });
                cargo
                    .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
                    .env("RUSTC", "/usr/bin/rustc")
                    .env("RUSTC_BOOTSTRAP", "1")
                    .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linker);
                cargo
            }
        };
        cargo
            .current_dir(&work.dir)
            .env("CARGO_TARGET_DIR", &work.target)
            .env_remove("RUSTFLAGS")
            .args([verb, "--target", TARGET]);
        if work.locked {
            cargo.arg("--locked");
        }
        if work.quiet {
            cargo.arg("--quiet");
        }
        if let Self::Debian { .. } = self {
            cargo.arg("-Zbuild-std=std,panic_abort");
        }
        cargo
    }

    fn flags(&self, work: &Work) -> Result<Vec<String>, Error> {
        let home = cargo_home()?;
        let mut remapped = vec![work.root.clone(), (home.clone(), "/cargo".into())];
        // A mirror's folder has another name than the registry's own.
        if let Ok(registries) = std::fs::read_dir(home.join("registry/src")) {
            remapped.extend(registries.flatten().map(|entry| (entry.path(), "/registry".into())));
        }
        remapped.sort();
        match self {
            // Where a toolchain has its sources, paths into them stand for the compiler's own virtual ones.
            Self::Own { sysroot } => remapped.push((
                sysroot.join("lib/rustlib/src/rust"),
                format!("/rustc/{}", rustc::commit()?),
            )),
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

/// The cargo in use, without what `cargo run` tells its child.
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget(&mut cargo, |name| {
        name.starts_with("CARGO_PKG_") || LEAKED.contains(&name)
    });
    cargo
}

/// Takes what is in our environment for another out of the command's.
fn forget(cargo: &mut Command, which: impl Fn(&str) -> bool) {
    for (name, _) in std::env::vars_os() {
        if which(&name.to_string_lossy()) {
            cargo.env_remove(&name);
        }
    }
}

fn cargo_home() -> Result<PathBuf, Error> {
    if let Some(home) = std::env::var_os("CARGO_HOME") {
        return std::path::absolute(home).map_err(|error| Error::Io {
            doing: "reading CARGO_HOME".into(),
            error,
        });
    }
    Ok(std::env::home_dir().ok_or(Error::NoHome)?.join(".cargo"))
}
