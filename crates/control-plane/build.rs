//! Compiles in the digests of the built-in plugins: until signatures exist, no other component is accepted.
//!
//! They come from the file that the build of the guests leaves, `CLAWKER_DIGESTS` or its usual place. Without it
//! the list is empty, and the control plane accepts no plugin at all.

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    println!("cargo::rerun-if-env-changed=CLAWKER_DIGESTS");
    let path = env::var_os("CLAWKER_DIGESTS").map_or_else(usual_place, PathBuf::from);
    println!("cargo::rerun-if-changed={}", path.display());
    let listed = fs::read_to_string(&path).unwrap_or_default();
    let digests: Vec<&str> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let code = format!("pub const ACCEPTED: &[&str] = &{digests:?};\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(out.join("digests.rs"), code).expect("write digests.rs");
}

fn usual_place() -> PathBuf {
    let manifest = env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets CARGO_MANIFEST_DIR");
    let target =
        env::var_os("CARGO_TARGET_DIR").map_or_else(|| Path::new(&manifest).join("../../target"), PathBuf::from);
    target.join("clawker/libexec/plugins/digests")
}
