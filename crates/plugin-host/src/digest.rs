//! Which components are meant: SHA-256 of their bytes.

use clawker_model::PluginDigest;
use sha2::{Digest, Sha256};

/// The digest of a component.
pub fn digest(bytes: &[u8]) -> PluginDigest {
    PluginDigest::of(&Sha256::digest(bytes).into())
}

/// A line of a `digests` file is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the plugin digests is not `<64 hex digits>  <name>.wasm`")]
pub struct DigestsError {
    pub line: usize,
}

/// Reads a `digests` file, lines of `<sha256 hex>  <name>.wasm`, into pairs of file name and digest.
pub fn parse_digests(text: &str) -> Result<Vec<(String, PluginDigest)>, DigestsError> {
    let entry = |(index, line): (usize, &str)| {
        let bad = DigestsError { line: index + 1 };
        let (hex, name) = line.split_once("  ").ok_or(bad.clone())?;
        if name.is_empty() || name.contains(['/', '\0']) {
            return Err(bad);
        }
        Ok((name.to_owned(), PluginDigest::parse(hex).map_err(|_| bad)?))
    };
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.is_empty())
        .map(entry)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_what_sha256sum_prints() {
        assert_eq!(
            digest(b"").as_str(),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
        );
    }

    #[test]
    fn digests_files_are_read_or_refused_by_line() {
        let hex = digest(b"x");
        let read = parse_digests(&format!("{hex}  a.wasm\n{hex}  b.wasm\n")).expect("well formed");
        assert_eq!(read, [("a.wasm".into(), hex.clone()), ("b.wasm".into(), hex.clone())]);
        for bad in [
            format!("{hex} a.wasm"),
            format!("{hex}  "),
            format!("{hex}  ../a.wasm"),
            "x  a".into(),
        ] {
            assert_eq!(
                parse_digests(&format!("{hex}  ok.wasm\n{bad}\n")),
                Err(DigestsError { line: 2 }),
                "{bad}"
            );
        }
    }
}
