//! What the Rust toolchain in use says of itself.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::Error;

/// `x86_64-unknown-linux-gnu`
pub fn host_triple() -> Result<String, Error> {
    Ok(version("host: ")?.unwrap_or_else(|| "unknown".into()))
}

/// The commit that the toolchain was made from.
pub(crate) fn commit() -> Result<String, Error> {
    Ok(version("commit-hash: ")?.unwrap_or_else(|| "unknown".into()))
}

fn version(line: &str) -> Result<Option<String>, Error> {
    let said = output(Command::new(rustc()).arg("-vV"))?;
    Ok(said
        .lines()
        .find_map(|found| found.strip_prefix(line))
        .map(str::to_owned))
}

/// Where it keeps its libraries and its linker.
pub fn sysroot() -> Result<PathBuf, Error> {
    Ok(PathBuf::from(
        output(Command::new(rustc()).args(["--print", "sysroot"]))?.trim(),
    ))
}

/// The linker for guests: the toolchain's own, else Debian's.
pub fn guest_linker() -> Option<PathBuf> {
    let own = sysroot().ok().zip(host_triple().ok());
    own.map(|(sysroot, triple)| sysroot.join("lib/rustlib").join(triple).join("bin/rust-lld"))
        .filter(|linker| linker.is_file())
        .or_else(|| which("wasm-ld-19"))
        .or_else(|| which("wasm-ld"))
}

fn rustc() -> std::ffi::OsString {
    std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())
}

fn which(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/bin")])
        .map(|dir| dir.join(name))
        .find(|file| file.is_file())
}

/// Runs it in silence: its standard output, if it succeeded.
fn output(command: &mut Command) -> Result<String, Error> {
    let what = format!("{command:?}").replace('"', "");
    let out = command.stdin(Stdio::null()).output().map_err(|error| Error::Io {
        doing: format!("starting `{what}` (is Rust installed?)"),
        error,
    })?;
    if !out.status.success() {
        return Err(Error::Tool {
            what,
            how: out.status.to_string(),
            said: String::from_utf8_lossy(&out.stderr).trim().to_owned(),
        });
    }
    Ok(String::from_utf8_lossy(&out.stdout).into_owned())
}
