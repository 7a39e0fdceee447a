//! `plugins.lock`: which plugins this host has, pinned, and what each may do.
//!
//! The control plane alone writes it. Each entry has a MAC under a key of the host's, and the list has one, so a change by
//! hand is seen: it is refused by name, and nothing of the file is used. The same content is the same text.

use std::collections::BTreeMap;

use base64::prelude::BASE64_STANDARD;
use clawker_model::PluginDigest;
use ring::hmac;
use serde::{Deserialize, Serialize};

use crate::{Asked, Grants, KeyId, Kind, Signer};

/// Bytes of the file.
pub const MAX_LOCK: usize = 4 << 20;
/// Plugins of a host.
pub const MAX_PLUGINS: usize = 1_000;
const FORMAT: u32 = 1;

/// Why a lockfile can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    #[error("plugins.lock has {0} bytes, the limit is {MAX_LOCK}")]
    TooLarge(usize),
    #[error("plugins.lock is of format {0}; this clawker reads format {FORMAT}")]
    Format(u32),
    #[error("plugins.lock can't be read: {0}")]
    Malformed(String),
    #[error(
        "plugins.lock: the entry of `{0:.64}` was changed by hand: put it back, or remove it and install the plugin anew"
    )]
    ChangedByHand(String),
    #[error("plugins.lock: entries were added, removed or reordered by hand, or it is another host's: put it back")]
    ListChanged,
    #[error("plugins.lock: more than {MAX_PLUGINS} plugins")]
    TooMany,
}

/// One version of a plugin, as it was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pin {
    pub version: String,
    #[serde(with = "sri")]
    pub digest: PluginDigest,
    /// Who vouches for it.
    pub key: KeyId,
    pub signer: Signer,
    /// Version of the WIT package.
    pub world: String,
    /// Where it was got.
    pub source: String,
    /// A JSON object.
    pub settings: String,
    #[serde(default)]
    pub grants: Grants,
    #[serde(default)]
    pub limits: Asked,
}

/// A version on trial beside the one in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnTrial {
    /// Events that both have to judge alike before it takes the other's place; 0 for never.
    pub promote_after: u64,
    pub pin: Pin,
}

/// A plugin of this host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
    /// Milliseconds since the Unix epoch.
    pub installed_ms: u64,
    pub enabled: bool,
    /// `enforce` or `monitor`, of a policy.
    pub mode: String,
    /// What is done while a policy can't answer.
    pub fallback: String,
    pub fail_mode: String,
    pub pin: Pin,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trial: Option<OnTrial>,
    /// The version before, to go back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Pin>,
}

impl Entry {
    /// All versions of it that are kept: the one in force, one on trial, the one before.
    pub fn pins(&self) -> impl Iterator<Item = &Pin> {
        let trial = self.trial.as_ref().map(|trial| &trial.pin);
        [Some(&self.pin), trial, self.previous.as_ref()].into_iter().flatten()
    }
}

/// The file's content.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lock {
    /// Counts the writes.
    pub serial: u64,
    pub plugins: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    serial: u64,
    mac: String,
    /// Each an [`Entry`] with its `mac`.
    #[serde(default)]
    plugin: Vec<toml::Table>,
}

const MAC: &str = "mac";

#[derive(Deserialize)]
struct Head {
    format: u32,
}

impl Lock {
    /// Reads a file that was written with the same key.
    pub fn parse(text: &str, key: &[u8; 32]) -> Result<Self, LockError> {
        if text.len() > MAX_LOCK {
            return Err(LockError::TooLarge(text.len()));
        }
        let malformed = |error: toml::de::Error| LockError::Malformed(error.to_string());
        let Head { format } = toml::from_str(text).map_err(malformed)?;
        if format != FORMAT {
            return Err(LockError::Format(format));
        }
        let file: File = toml::from_str(text).map_err(malformed)?;
        if file.plugin.len() > MAX_PLUGINS {
            return Err(LockError::TooMany);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let (mut macs, mut plugins) = (Vec::new(), BTreeMap::new());
        for mut written in file.plugin {
            let name = written.get("name").and_then(toml::Value::as_str);
            let changed = LockError::ChangedByHand(name.unwrap_or("?").to_owned());
            let mac = written.remove(MAC);
            let (Some(toml::Value::String(mac)), Ok(entry)) = (mac, written.try_into::<Entry>()) else {
                return Err(changed);
            };
            if !is_right(&key, &of_entry(&entry)?, &mac) {
                return Err(changed);
            }
            macs.push(mac);
            plugins.insert(entry.name.clone(), entry);
        }
        if !is_right(&key, &of_list(file.serial, &macs), &file.mac) {
            return Err(LockError::ListChanged);
        }
        Ok(Self {
            serial: file.serial,
            plugins,
        })
    }

    /// The file's text.
    pub fn write(&self, key: &[u8; 32]) -> Result<String, LockError> {
        if self.plugins.len() > MAX_PLUGINS {
            return Err(LockError::TooMany);
        }
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        let (mut macs, mut plugin) = (Vec::new(), Vec::new());
        for entry in self.plugins.values() {
            let mac = hex(hmac::sign(&key, &of_entry(entry)?).as_ref());
            let written = toml::Table::try_from(entry);
            let mut written = written.map_err(|error| LockError::Malformed(error.to_string()))?;
            written.insert(MAC.to_owned(), mac.clone().into());
            macs.push(mac);
            plugin.push(written);
        }
        let file = File {
            format: FORMAT,
            serial: self.serial,
            mac: hex(hmac::sign(&key, &of_list(self.serial, &macs)).as_ref()),
            plugin,
        };
        let text = toml::to_string(&file).map_err(|error| LockError::Malformed(error.to_string()))?;
        let head = "# Written by the control plane: a change by hand is refused.\n";
        match head.len() + text.len() {
            len if len > MAX_LOCK => Err(LockError::TooLarge(len)),
            _ => Ok(format!("{head}{text}")),
        }
    }
}

fn of_entry(entry: &Entry) -> Result<Vec<u8>, LockError> {
    let json = serde_json::to_vec(entry).map_err(|error| LockError::Malformed(error.to_string()))?;
    Ok([b"clawker-plugins-lock-entry/1\n".as_slice(), &json].concat())
}

fn of_list(serial: u64, macs: &[String]) -> Vec<u8> {
    format!("clawker-plugins-lock/1\n{FORMAT}\n{serial}\n{}", macs.join("\n")).into_bytes()
}

fn is_right(key: &hmac::Key, message: &[u8], mac: &str) -> bool {
    unhex(mac).is_some_and(|mac| hmac::verify(key, message, &mac).is_ok())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    // Upper case would be another text for the same MAC.
    (text.len() == 64 && !text.bytes().any(|b| b.is_ascii_uppercase() || b == b'+'))
        .then(|| pairs.map(byte).collect())
        .flatten()
}

/// A digest as W3C's Subresource Integrity writes it, as Nix does too.
mod sri {
    use base64::Engine as _;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    use super::{BASE64_STANDARD, PluginDigest, hex, unhex};

    pub fn serialize<S: Serializer>(digest: &PluginDigest, to: S) -> Result<S::Ok, S::Error> {
        let bytes = unhex(digest.as_str()).unwrap_or_default();
        to.serialize_str(&format!("sha256-{}", BASE64_STANDARD.encode(bytes)))
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<PluginDigest, D::Error> {
        let text = String::deserialize(from)?;
        let bytes = text
            .strip_prefix("sha256-")
            .and_then(|text| BASE64_STANDARD.decode(text).ok());
        bytes
            .and_then(|bytes| PluginDigest::parse(&hex(&bytes)).ok())
            .ok_or_else(|| D::Error::custom("a digest is `sha256-<base64>`"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: [u8; 32] = [7; 32];

    fn pin(n: u8) -> Pin {
        Pin {
            version: format!("0.{n}.0"),
            digest: PluginDigest::parse(&format!("{n:02x}").repeat(32)).expect("digest"),
            key: KeyId::parse(&"0a".repeat(16)).expect("id"),
            signer: Signer::ThirdParty,
            world: "0.1.0".into(),
            source: "oci://registry.example/oom-alert@sha256:00".into(),
            settings: r#"{"freeze_after":3}"#.into(),
            grants: Grants::parse(["exec:git *", "log"]).expect("grants"),
            limits: Asked {
                fuel: Some(100_000_000),
                ..Asked::default()
            },
        }
    }

    fn lock() -> Lock {
        let entry = |name: &str, n| Entry {
            name: name.into(),
            kind: Kind::Policy,
            installed_ms: 1_800_000_000_000,
            enabled: true,
            mode: "enforce".into(),
            fallback: "lock-network".into(),
            fail_mode: "closed".into(),
            pin: pin(n),
            trial: (n == 1).then(|| OnTrial {
                promote_after: 1000,
                pin: pin(9),
            }),
            previous: (n == 2).then(|| pin(8)),
        };
        let plugins = [entry("oom-alert", 1), entry("exec-guard", 2)];
        Lock {
            serial: 3,
            plugins: plugins.map(|entry| (entry.name.clone(), entry)).into(),
        }
    }

    #[test]
    fn a_lockfile_is_read_as_it_was_written_and_written_the_same() {
        let text = lock().write(&KEY).expect("writes");
        let read = Lock::parse(&text, &KEY).expect("reads");
        assert_eq!(read, lock());
        assert_eq!(read.write(&KEY).expect("writes"), text);
        assert!(text.contains("digest = \"sha256-AQEBAQEB"), "{text}");
    }

    #[test]
    fn an_entry_that_was_changed_by_hand_is_named() {
        let text = lock().write(&KEY).expect("writes");
        for (from, to) in [
            ("mode = \"enforce\"", "mode = \"monitor\""),
            ("\"exec:git *\"", "\"exec\""),
            ("freeze_after\\\":3", "freeze_after\\\":9"),
            ("enabled = true", "enabled = true\nextra = 1"),
            ("enabled = true", ""),
        ] {
            // TOML has another way to quote.
            let (from, to) = match text.contains(from) {
                true => (from.to_owned(), to.to_owned()),
                false => (from.replace('\\', ""), to.replace('\\', "")),
            };
            let changed = text.replacen(&from, &to, 1);
            assert_ne!(changed, text, "{from}");
            let error = Lock::parse(&changed, &KEY).expect_err(&from);
            assert!(
                matches!(&error, LockError::ChangedByHand(name) if name == "exec-guard"),
                "{error}"
            );
        }
    }

    #[test]
    fn a_list_that_was_changed_or_is_another_hosts_is_refused() {
        let text = lock().write(&KEY).expect("writes");
        let second = text.rfind("[[plugin]]").expect("two entries");
        let first = text.find("[[plugin]]").expect("two entries");
        for changed in [
            text.replace("serial = 3", "serial = 2"),
            text[..second].to_owned(),
            format!("{}{}", &text[..first], &text[second..]),
            format!("{text}{}", &text[second..]),
        ] {
            assert_eq!(Lock::parse(&changed, &KEY), Err(LockError::ListChanged), "{changed}");
        }
        assert!(matches!(Lock::parse(&text, &[8; 32]), Err(LockError::ChangedByHand(_))));
        let later = text.replace("format = 1", "format = 2\nof = \"a later release\"");
        assert_eq!(Lock::parse(&later, &KEY), Err(LockError::Format(2)));
    }

    #[test]
    fn lockfiles_have_caps() {
        let long = "x".repeat(MAX_LOCK + 1);
        assert_eq!(Lock::parse(&long, &KEY), Err(LockError::TooLarge(MAX_LOCK + 1)));
        let mut lock = lock();
        let entry = lock.plugins["oom-alert"].clone();
        let many = (0..=MAX_PLUGINS).map(|n| {
            (
                format!("p{n}"),
                Entry {
                    name: format!("p{n}"),
                    ..entry.clone()
                },
            )
        });
        lock.plugins = many.collect();
        assert_eq!(lock.write(&KEY), Err(LockError::TooMany));
    }

    proptest! {
        #[test]
        fn no_changed_byte_is_taken_for_another_content(at in 0usize..4000, to in 32u8..127) {
            let text = lock().write(&KEY).expect("writes");
            let mut bytes = text.into_bytes();
            let at = at % bytes.len();
            bytes[at] = to;
            if let Ok(read) = Lock::parse(&String::from_utf8(bytes).expect("ASCII"), &KEY) {
                prop_assert_eq!(read, lock());
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "\\PC{0,200}") {
            let _ = Lock::parse(&text, &KEY);
        }
    }
}
