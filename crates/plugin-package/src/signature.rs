//! A signature: which key vouches for which component. Detached, in a small JSON file beside the component.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clawker_model::PluginDigest;
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use crate::{KeyId, PublicKey, SecretKey};

/// Bytes of a signature file.
pub const MAX_SIGNATURE: usize = 4 << 10;
const FORMAT: u32 = 1;
/// So that no signature for something else is one for a plugin.
const CONTEXT: &str = "clawker-plugin-signature/1";

/// Why a signature says nothing about a component.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    #[error("the signature file has {len} bytes, the limit is {MAX_SIGNATURE}")]
    TooLarge { len: usize },
    #[error("the signature file is not one of `clawker plugin sign`: {problem}")]
    Malformed { problem: String },
    #[error("the signature is of format {format}; this clawker reads format {FORMAT}")]
    Format { format: u32 },
    #[error("the signature is for another component, sha256:{signed}; this one is sha256:{found}")]
    OtherComponent { signed: PluginDigest, found: PluginDigest },
    #[error("the signature is by the key {by}, not by {asked}")]
    OtherKey { by: KeyId, asked: KeyId },
    #[error("the signature by the key {by} is wrong: the file was changed, or never made with that key")]
    Wrong { by: KeyId },
}

/// A key's word for a component. Reading it checks its form alone; [`Signature::verify`] checks the word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    pub key: KeyId,
    pub digest: PluginDigest,
    bytes: [u8; 64],
}

/// As it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    format: u32,
    key: KeyId,
    /// `sha256:<hex>`
    digest: String,
    /// Base64.
    signature: String,
}

impl Signature {
    /// Signs the component of that digest.
    pub fn make(key: &SecretKey, digest: &PluginDigest) -> Self {
        let made = key.pair.sign(message(digest).as_bytes());
        let mut bytes = [0; 64];
        bytes.iter_mut().zip(made.as_ref()).for_each(|(to, from)| *to = *from);
        Self {
            key: key.public().id(),
            digest: digest.clone(),
            bytes,
        }
    }

    /// Reads a signature file.
    pub fn parse(file: &[u8]) -> Result<Self, SignatureError> {
        if file.len() > MAX_SIGNATURE {
            return Err(SignatureError::TooLarge { len: file.len() });
        }
        let malformed = |problem: String| SignatureError::Malformed { problem };
        let value: serde_json::Value = serde_json::from_slice(file).map_err(|error| malformed(error.to_string()))?;
        // Before the rest, which another format may have otherwise.
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        match format.map(u32::try_from) {
            Some(Ok(FORMAT)) => {}
            Some(Ok(format)) => return Err(SignatureError::Format { format }),
            _ => return Err(malformed("it has no format".to_owned())),
        }
        let written: Written = serde_json::from_slice(file).map_err(|error| malformed(error.to_string()))?;
        let digest = written
            .digest
            .strip_prefix("sha256:")
            .and_then(|hex| PluginDigest::parse(hex).ok())
            .ok_or_else(|| malformed("its digest isn't `sha256:<64 hex digits>`".to_owned()))?;
        let bytes = BASE64_STANDARD.decode(&written.signature).ok();
        let bytes = bytes
            .and_then(|bytes| <[u8; 64]>::try_from(bytes).ok())
            .ok_or_else(|| malformed("its signature isn't base64 of 64 bytes".to_owned()))?;
        Ok(Self {
            key: written.key,
            digest,
            bytes,
        })
    }

    /// The file's content, one line of JSON.
    pub fn to_json(&self) -> String {
        let written = Written {
            format: FORMAT,
            key: self.key.clone(),
            digest: format!("sha256:{}", self.digest),
            signature: BASE64_STANDARD.encode(self.bytes),
        };
        // Strings and a number always have a form.
        serde_json::to_string(&written).unwrap_or_default() + "\n"
    }

    /// Whether `by` vouches for the component of that digest. Whether `by` is trusted is another question.
    pub fn verify(&self, digest: &PluginDigest, by: &PublicKey) -> Result<(), SignatureError> {
        if self.digest != *digest {
            return Err(SignatureError::OtherComponent {
                signed: self.digest.clone(),
                found: digest.clone(),
            });
        }
        if self.key != by.id() {
            return Err(SignatureError::OtherKey {
                by: self.key.clone(),
                asked: by.id(),
            });
        }
        UnparsedPublicKey::new(&ED25519, &by.bytes)
            .verify(message(digest).as_bytes(), &self.bytes)
            .map_err(|_| SignatureError::Wrong { by: self.key.clone() })
    }
}

fn message(digest: &PluginDigest) -> String {
    format!("{CONTEXT}\nsha256:{digest}\n")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(name: &str) -> SecretKey {
        let dir = tempfile::tempdir().expect("folder");
        SecretKey::make(&dir.path().join("key"), name).expect("made")
    }

    fn digest(letter: &str) -> PluginDigest {
        PluginDigest::parse(&letter.repeat(64)).expect("digest")
    }

    #[test]
    fn a_signature_is_of_one_key_for_one_component() {
        let (alice, bob) = (key("alice"), key("bob"));
        let signature = Signature::make(&alice, &digest("a"));
        let read = Signature::parse(signature.to_json().as_bytes()).expect("reads");
        assert_eq!(read, signature);
        assert_eq!(read.verify(&digest("a"), &alice.public()), Ok(()));
        let replayed = read.verify(&digest("b"), &alice.public());
        assert!(
            matches!(replayed, Err(SignatureError::OtherComponent { .. })),
            "{replayed:?}"
        );
        let foreign = read.verify(&digest("a"), &bob.public());
        assert!(matches!(foreign, Err(SignatureError::OtherKey { .. })), "{foreign:?}");
    }

    #[test]
    fn a_signature_under_another_keys_id_is_wrong() {
        let (alice, bob) = (key("alice"), key("bob"));
        let mut forged = Signature::make(&bob, &digest("a"));
        forged.key = alice.public().id();
        let wrong = SignatureError::Wrong {
            by: alice.public().id(),
        };
        assert_eq!(forged.verify(&digest("a"), &alice.public()), Err(wrong.clone()));
        // One for another component whose digest was changed.
        let mut moved = Signature::make(&alice, &digest("b"));
        moved.digest = digest("a");
        assert_eq!(moved.verify(&digest("a"), &alice.public()), Err(wrong));
    }

    #[test]
    fn a_signature_with_any_bit_flipped_is_wrong() {
        let alice = key("alice");
        let good = Signature::make(&alice, &digest("a"));
        for bit in 0..512 {
            let mut flipped = good.clone();
            flipped.bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(flipped.verify(&digest("a"), &alice.public()).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn files_that_are_no_signatures_are_refused_by_name() {
        let good = Signature::make(&key("alice"), &digest("a")).to_json();
        let says = |text: &str, problem: &str| {
            let error = Signature::parse(text.as_bytes()).expect_err(text).to_string();
            assert!(error.contains(problem), "{text}: {error}");
        };
        says("", "not one of `clawker plugin sign`");
        says("{}", "no format");
        says(
            &good.replace("\"format\":1", "\"format\":2"),
            "format 2; this clawker reads format 1",
        );
        says(&good.replace("sha256:a", "sha256:z"), "64 hex digits");
        says(&good.replace("sha256:", "sha512:"), "64 hex digits");
        says(&good.replace("\"key\":\"", "\"key\":\"0"), "32 of 0-9");
        says(&good.replace("\"signature\":\"", "\"signature\":\"AAAA"), "64 bytes");
        says(
            &good.replace("\"format\"", "\"more\":1,\"format\""),
            "unknown field `more`",
        );
        says(&format!("{good}{good}"), "trailing");
        says(&format!("{good}{}", " ".repeat(MAX_SIGNATURE)), "the limit is 4096");
    }

    proptest! {
        #[test]
        fn no_file_is_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Signature::parse(&bytes);
        }

        #[test]
        fn no_changed_file_is_a_good_signature(at in 0_usize..200, with in any::<u8>()) {
            let alice = key("alice");
            let signature = Signature::make(&alice, &digest("a"));
            let mut file = signature.to_json().into_bytes();
            let Some(byte) = file.get_mut(at) else { return Ok(()) };
            *byte = with;
            if let Ok(read) = Signature::parse(&file) {
                prop_assert!(read == signature || read.verify(&digest("a"), &alice.public()).is_err());
            }
        }
    }
}
