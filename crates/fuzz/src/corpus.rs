//! `fuzz/corpus/<target>/`: inputs that were found, one a file, and what the targets' own seeds are beside them.

use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// The folder of the repository in which a target's inputs are kept.
pub fn folder(target: &Target) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
    root.join(target.name)
}

/// What is written for libFuzzer, and what that adds by coverage: named by a SHA-1. Neither is the project's to keep, and
/// there may be thousands.
fn is_libfuzzers(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    name.starts_with("seed-") || (name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// The inputs of a target's folder, by name; none where there is no folder.
pub fn kept(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let entries = match std::fs::read_dir(folder(target)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry?.path());
    }
    paths.retain(|path| !is_libfuzzers(path));
    paths.sort();
    paths.iter().map(std::fs::read).collect()
}

/// All that there is to begin with.
pub fn pool(target: &Target) -> io::Result<Vec<Vec<u8>>> {
    let mut pool = (target.seeds)();
    pool.extend(kept(target)?);
    Ok(pool)
}

/// Writes the target's own seeds into its folder, for libFuzzer, which knows files only; how many.
pub fn write_seeds(target: &Target) -> io::Result<usize> {
    let folder = folder(target);
    std::fs::create_dir_all(&folder)?;
    let seeds = (target.seeds)();
    for (number, seed) in seeds.iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number}")), seed)?;
    }
    Ok(seeds.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libfuzzer_adds_is_told_from_what_is_kept() {
        let sha1 = "0".repeat(39) + "f";
        for (name, theirs) in [
            (sha1.as_str(), true),
            ("seed-0", true),
            ("an-errno-that-has-no-opposite", false),
            ("agent.der", false),
            ("0f", false),
        ] {
            assert_eq!(is_libfuzzers(&Path::new("corpus/x").join(name)), theirs, "{name}");
        }
    }
}
