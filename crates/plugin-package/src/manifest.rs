//! What a component says beside its code, in the custom section `clawker:manifest`.
//!
//! The build tool writes name, version, kind and imports from the code itself, and the rest from the author's
//! `plugin.toml`. Whoever loads the component compares: a manifest that says something else than the code is refused.
//! Fields may be added; a reader leaves those alone that it doesn't know.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use wasm_encoder::{CustomSection, Encode as _};

use crate::grant::{Grant, GrantError};
use crate::section;

/// Name of the section.
pub const SECTION: &str = "clawker:manifest";
/// Bytes of it.
pub const MAX_MANIFEST: usize = 64 << 10;
/// Bounds of one interface.
pub const MAX_ASKS: usize = 64;
/// Bytes of a line for people.
const MAX_LINE: usize = 1 << 10;
const FORMAT: u32 = 1;

/// Why a component's manifest can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    #[error("the file is no WebAssembly: {0}")]
    NotWasm(String),
    #[error("the component has {0} manifests, not one: build it anew")]
    Several(usize),
    #[error("the manifest has {0} bytes, the limit is {MAX_MANIFEST}")]
    TooLarge(usize),
    #[error("the manifest can't be read: {0}")]
    Malformed(String),
    #[error("the manifest is of format {0}; this clawker reads format {FORMAT}")]
    Format(u32),
    #[error("the manifest's `{field}` is {problem}")]
    Field { field: &'static str, problem: String },
    #[error("the manifest asks for `{interface:.40}` within bounds, but the code doesn't import it")]
    NotImported { interface: String },
    #[error("the manifest's bounds: {0}")]
    Asks(#[from] GrantError),
    #[error("the manifest lies: its `{field}` is {said:.80}, the code's is {found:.80}")]
    Lies {
        field: &'static str,
        said: String,
        found: String,
    },
}

/// Which world a component is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Policy,
    Step,
    Gate,
}

impl Kind {
    pub fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Step => "step",
            Self::Gate => "gate",
        }
    }
}

/// Limits of a call, where the world's own don't do. What a host gives at most is its own to say.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// Units of fuel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fuel: Option<u64>,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: u32,
    pub name: String,
    pub version: String,
    pub kind: Kind,
    /// Version of the WIT package.
    pub world: String,
    /// One line.
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub license: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub homepage: Option<String>,
    /// What it was written in, e.g. `rust`.
    #[serde(default)]
    pub language: String,
    /// Interfaces that the code imports.
    pub imports: BTreeSet<String>,
    /// Bounds, by interface.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asks: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub limits: Asked,
}

impl Manifest {
    /// One that says as little as can be said.
    pub fn new(name: &str, version: &str, kind: Kind, imports: impl IntoIterator<Item = String>) -> Self {
        Self {
            format: FORMAT,
            name: name.to_owned(),
            version: version.to_owned(),
            kind,
            world: "0.1.0".to_owned(),
            description: String::new(),
            license: None,
            homepage: None,
            language: String::new(),
            imports: imports.into_iter().collect(),
            asks: BTreeMap::new(),
            limits: Asked::default(),
        }
    }

    /// The component's manifest; `None` if it has none.
    pub fn find(component: &[u8]) -> Result<Option<Self>, ManifestError> {
        let sections = section::named(component, SECTION).map_err(|error| ManifestError::NotWasm(error.to_string()))?;
        match &sections[..] {
            [] => Ok(None),
            [one] => Self::parse(component.get(one.content.clone()).unwrap_or_default()).map(Some),
            more => Err(ManifestError::Several(more.len())),
        }
    }

    /// Reads a section's content.
    pub fn parse(content: &[u8]) -> Result<Self, ManifestError> {
        /// Read first, because another format may have other fields.
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        if content.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(content.len()));
        }
        let malformed = |error: serde_json::Error| ManifestError::Malformed(error.to_string());
        let Head { format } = serde_json::from_slice(content).map_err(malformed)?;
        if format != FORMAT {
            return Err(ManifestError::Format(format));
        }
        let manifest: Self = serde_json::from_slice(content).map_err(malformed)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// Whether what it says is within bounds.
    pub fn check(&self) -> Result<(), ManifestError> {
        let field = |field, problem: &str| {
            Err(ManifestError::Field {
                field,
                problem: problem.to_owned(),
            })
        };
        let lines = [
            ("version", &self.version),
            ("description", &self.description),
            ("license", self.license.as_ref().unwrap_or(&self.language)),
            ("homepage", self.homepage.as_ref().unwrap_or(&self.language)),
            ("language", &self.language),
            ("world", &self.world),
        ];
        for (name, line) in lines {
            if line.len() > MAX_LINE || line.chars().any(char::is_control) {
                return field(name, "no line of at most 1 KiB");
            }
        }
        if !is_name(&self.name) {
            return field("name", "no name: [a-z0-9]([a-z0-9-]*[a-z0-9])?, at most 64 characters");
        }
        if !self.world.starts_with("0.1.") {
            return field("world", "of another contract than clawker:plugin@0.1");
        }
        for (interface, bounds) in &self.asks {
            if !self.imports.contains(interface) {
                return Err(ManifestError::NotImported {
                    interface: interface.clone(),
                });
            }
            if bounds.is_empty() || bounds.len() > MAX_ASKS {
                return field("asks", "of 1 to 64 bounds an interface");
            }
            for bound in bounds {
                Grant::parse(&format!("{interface}:{bound}"))?;
            }
        }
        Ok(())
    }

    /// Whether the code is what the manifest says it is.
    pub fn agrees(&self, name: &str, version: &str, kind: Kind, imports: &[String]) -> Result<(), ManifestError> {
        self.has_imports(imports)?;
        let lies = |field, said: &str, found: &str| {
            let lie = ManifestError::Lies {
                field,
                said: said.to_owned(),
                found: found.to_owned(),
            };
            if said == found { Ok(()) } else { Err(lie) }
        };
        lies("kind", self.kind.word(), kind.word())?;
        lies("name", &self.name, name)?;
        lies("version", &self.version, version)
    }

    /// The part of it that can be seen without running the code.
    pub fn has_imports(&self, imports: &[String]) -> Result<(), ManifestError> {
        let found: BTreeSet<String> = imports.iter().cloned().collect();
        if found == self.imports {
            return Ok(());
        }
        let words = |set: &BTreeSet<String>| format!("[{}]", set.iter().cloned().collect::<Vec<_>>().join(", "));
        Err(ManifestError::Lies {
            field: "imports",
            said: words(&self.imports),
            found: words(&found),
        })
    }

    /// The component with this manifest in the place of any that it has. The same input gives the same bytes.
    pub fn embed(&self, component: &[u8]) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let content = serde_json::to_vec(self).map_err(|error| ManifestError::Malformed(error.to_string()))?;
        if content.len() > MAX_MANIFEST {
            return Err(ManifestError::TooLarge(content.len()));
        }
        let sections = section::named(component, SECTION).map_err(|error| ManifestError::NotWasm(error.to_string()))?;
        let (mut made, mut from) = (Vec::with_capacity(component.len() + content.len() + 64), 0);
        for old in sections {
            made.extend_from_slice(component.get(from..old.whole.start).unwrap_or_default());
            from = old.whole.end;
        }
        made.extend_from_slice(component.get(from..).unwrap_or_default());
        let section = CustomSection {
            name: SECTION.into(),
            data: (&content).into(),
        };
        made.push(0);
        section.encode(&mut made);
        Ok(made)
    }
}

/// Whether a plugin may be called that.
pub fn is_name(name: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A component without anything in it.
    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    fn manifest() -> Manifest {
        let imports = ["log", "exec"].map(String::from);
        let mut manifest = Manifest::new("git-setup", "0.2.0", Kind::Step, imports);
        manifest.asks = BTreeMap::from([("exec".into(), vec!["git **".into()])]);
        manifest.description = "Sets git up".into();
        manifest
    }

    fn with(json: &str) -> Vec<u8> {
        let mut component = EMPTY.to_vec();
        component.push(0);
        let section = CustomSection {
            name: SECTION.into(),
            data: json.as_bytes().into(),
        };
        section.encode(&mut component);
        component
    }

    #[test]
    fn a_manifest_is_found_as_it_was_put_in_and_replaced_by_another() {
        assert_eq!(Manifest::find(EMPTY), Ok(None));
        let first = manifest().embed(EMPTY).expect("embeds");
        assert_eq!(Manifest::find(&first), Ok(Some(manifest())));
        let mut later = manifest();
        later.version = "0.3.0".into();
        let second = later.embed(&first).expect("embeds");
        assert_eq!(Manifest::find(&second), Ok(Some(later.clone())));
        assert_eq!(second, later.embed(EMPTY).expect("embeds"));
        wasmparser::Validator::new()
            .validate_all(&second)
            .expect("still a component");
    }

    #[test]
    fn a_manifest_in_something_nested_is_not_the_components() {
        let mut component = EMPTY.to_vec();
        let inner = manifest().embed(EMPTY).expect("embeds");
        component.push(4);
        inner.len().encode(&mut component);
        component.extend_from_slice(&inner);
        assert_eq!(Manifest::find(&component), Ok(None));
    }

    #[test]
    fn a_manifest_that_lies_is_refused_by_what_it_lies_about() {
        let imports = ["exec", "log"].map(String::from);
        let manifest = manifest();
        assert_eq!(manifest.agrees("git-setup", "0.2.0", Kind::Step, &imports), Ok(()));
        let more = ["exec", "log", "secrets"].map(String::from);
        for (lie, field) in [
            (manifest.agrees("git-setup", "0.2.0", Kind::Step, &more), "imports"),
            (
                manifest.agrees("git-setup", "0.2.0", Kind::Step, &imports[..1]),
                "imports",
            ),
            (manifest.agrees("git-setup", "0.2.0", Kind::Policy, &imports), "kind"),
            (manifest.agrees("egress-guard", "0.2.0", Kind::Step, &imports), "name"),
            (manifest.agrees("git-setup", "0.2.1", Kind::Step, &imports), "version"),
        ] {
            let error = lie.expect_err(field);
            assert!(
                matches!(&error, ManifestError::Lies { field: of, .. } if *of == field),
                "{error}"
            );
        }
    }

    #[test]
    fn manifests_out_of_bounds_are_refused_by_name() {
        let whole = serde_json::to_string(&manifest()).expect("JSON");
        for (json, says) in [
            (String::new(), "can't be read"),
            ("[]".into(), "can't be read"),
            (whole.replace("\"format\":1", "\"format\":2"), "format 2"),
            (whole.replace("git-setup", "Git"), "`name`"),
            (whole.replace("git-setup", &"a".repeat(65)), "`name`"),
            (whole.replace("Sets git up", "two\\nlines"), "`description`"),
            (whole.replace("Sets git up", &"x".repeat(MAX_LINE + 1)), "`description`"),
            (whole.replace("\"0.1.0\"", "\"0.2.0\""), "`world`"),
            (whole.replace("\"step\"", "\"daemon\""), "can't be read"),
            (whole.replace("\"exec\":[", "\"secrets\":["), "doesn't import"),
            (whole.replace("[\"git **\"]", "[]"), "1 to 64"),
            (whole.replace("git **", "** git"), "no grant"),
            (whole.replace("Sets git up", &"x".repeat(MAX_MANIFEST)), "limit"),
        ] {
            let error = Manifest::find(&with(&json)).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        let mut two = manifest().embed(EMPTY).expect("embeds");
        two.extend_from_slice(&with(&whole)[EMPTY.len()..]);
        assert_eq!(Manifest::find(&two), Err(ManifestError::Several(2)));
        let more = whole.replace("\"format\":1", "\"format\":1,\"of\":\"a later release\"");
        assert_eq!(Manifest::find(&with(&more)), Ok(Some(manifest())));
    }

    #[test]
    fn files_that_are_no_components_have_no_manifest() {
        let whole = manifest().embed(EMPTY).expect("embeds");
        for len in 0..whole.len() {
            if len == EMPTY.len() {
                continue;
            }
            assert!(
                matches!(Manifest::find(&whole[..len]), Err(ManifestError::NotWasm(_))),
                "{len}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), json in "\\PC{0,200}") {
            let _ = Manifest::find(&bytes);
            let _ = Manifest::parse(json.as_bytes());
            let _ = manifest().embed(&bytes);
        }
    }
}
