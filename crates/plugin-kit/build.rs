//! Lists the files of the plugin SDK, so that new projects get them whole.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

fn main() -> std::io::Result<()> {
    let crates = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default()).join("..");
    let mut list = String::from("&[\n");
    for sdk in ["plugin-sdk", "plugin-sdk-macros"] {
        let dir = crates.join(sdk);
        println!("cargo::rerun-if-changed={}", dir.display());
        if !dir.is_dir() {
            continue;
        }
        let mut files = Vec::new();
        walk(&dir, &mut files)?;
        files.sort();
        for file in files {
            let name = file.strip_prefix(&crates).unwrap_or(&file);
            writeln!(list, "({:?}, include_str!({:?})),", name, file.canonicalize()?).map_err(std::io::Error::other)?;
        }
    }
    list.push(']');
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    std::fs::write(out.join("sdk.rs"), list)
}

/// What a project needs of a crate: no tests, which may need crates of ours.
fn walk(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let tests = ["tests", "examples", "target"].iter().any(|name| path.ends_with(name));
        if path.is_dir() && !tests {
            walk(&path, files)?;
        } else if path
            .extension()
            .is_some_and(|kind| ["rs", "toml", "wit", "md", "json"].iter().any(|known| kind == *known))
        {
            files.push(path);
        }
    }
    Ok(())
}
