//! From a Rust project to a component: who compiles for wasm32-unknown-unknown, with which flags, and how the module
//! becomes a component.
//!
//! Owns the toolchains that do it and the remapping of paths. Runs nothing of what it builds, knows no manifest and no
//! project format: a [`Work`] says where everything lies. The caller starts the commands, because one has signals to
//! pass on and another has a terminal.
//!
//! ```text
//! Work ──► cargo fetch, cargo build ──► core module ──wit-component──► component bytes
//! ```
//!
//! The same sources and the same compiler give the same bytes wherever the project and cargo's home lie, because every
//! path that could get into a component is remapped.

mod rustc;
mod toolchain;

use std::path::{Path, PathBuf};

pub use rustc::{guest_linker, host_triple, sysroot};
pub use toolchain::{Toolchain, cargo};

/// A program on PATH, or in one of these folders.
pub fn which<'a>(name: &str, also: impl IntoIterator<Item = &'a str>) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let also = also.into_iter().map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(also)
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// What guests are compiled for.
pub const TARGET: &str = "wasm32-unknown-unknown";

/// What to compile, and where everything lies.
#[derive(Debug, Clone)]
pub struct Work {
    /// Where cargo runs: a package or a workspace.
    pub dir: PathBuf,
    /// Cargo's target folder for it.
    pub target: PathBuf,
    /// A folder above all sources, absolute, and the path that stands for it in a component.
    pub root: (PathBuf, String),
    /// This package alone; `None` for all of the workspace.
    pub package: Option<String>,
    /// Refuse to change `Cargo.lock`.
    pub locked: bool,
    /// Let cargo say nothing but errors.
    pub quiet: bool,
}

impl Work {
    /// The core module of a library target, once it is compiled.
    pub fn module(&self, library: &str) -> PathBuf {
        let file = format!("{}.wasm", library.replace('-', "_"));
        self.target.join(TARGET).join("release").join(file)
    }
}

/// A component of a core module.
pub fn component(module: &Path) -> Result<Vec<u8>, Error> {
    let bytes = std::fs::read(module).map_err(|error| Error::Io {
        doing: format!("reading {}", module.display()),
        error,
    })?;
    wit_component::ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode())
        .map_err(|error| Error::Component {
            module: module.to_owned(),
            problem: format!("{error:#}"),
        })
}

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "nothing here compiles for {TARGET}: run `rustup target add {TARGET}`, or install Debian's rustc-web, \
         rust-src and lld"
    )]
    NoToolchain,
    #[error("{doing}: {error}")]
    Io {
        doing: String,
        #[source]
        error: std::io::Error,
    },
    #[error("`{what}` ended with {how}: {said}")]
    Tool { what: String, how: String, said: String },
    #[error("there is no home folder for cargo's registry: set HOME or CARGO_HOME")]
    NoHome,
    #[error(
        "making a component of {module}: {problem} (is it a plugin? its library has to be a `cdylib` that exports \
         one with the plugin SDK)"
    )]
    Component { module: PathBuf, problem: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_plugin_is_no_component() {
        let dir = std::env::temp_dir().join(format!("clawker-plugin-build-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("folder");
        let module = dir.join("x.wasm");
        std::fs::write(&module, b"\0asm\x01\0\0\0").expect("writes");
        // A module without a world in it is not a plugin's.
        let made = component(&module);
        std::fs::write(&module, b"no wasm").expect("writes");
        let refused = component(&module).expect_err("no module");
        let missing = component(&dir.join("y.wasm")).expect_err("no file");
        std::fs::remove_dir_all(&dir).expect("removes");
        assert!(
            made.is_ok_and(|bytes| bytes.get(4) == Some(&0x0d)),
            "a component, if an empty one"
        );
        assert!(refused.to_string().contains("is it a plugin?"), "{refused}");
        assert!(missing.to_string().starts_with("reading "), "{missing}");
    }

    #[test]
    fn a_module_is_found_by_the_name_of_its_library() {
        let work = Work {
            dir: "/a".into(),
            target: "/a/target".into(),
            root: ("/a".into(), "/plugin".into()),
            package: None,
            locked: true,
            quiet: false,
        };
        assert_eq!(
            work.module("egress-guard"),
            Path::new("/a/target/wasm32-unknown-unknown/release/egress_guard.wasm")
        );
    }
}
