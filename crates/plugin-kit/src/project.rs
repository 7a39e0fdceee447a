//! An author's project: `plugin.toml`, and what cargo says of the package beside it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde::Deserialize;

use crate::Error;
use crate::error::read_text;

/// Bytes of a `plugin.toml`.
pub const MAX_PLUGIN_TOML: u64 = 64 << 10;

/// What `plugin.toml` says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PluginToml {
    pub plugin: About,
    /// Parameters of the permissions, by interface; which interfaces there are is the component's to say.
    #[serde(default)]
    pub asks: BTreeMap<String, Vec<String>>,
    #[serde(default)]
    pub limits: LimitsAsked,
    #[serde(default)]
    pub test: TestSection,
}

/// `[plugin]`
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct About {
    /// Of a Python or JavaScript plugin; a Rust one has them from cargo.
    pub name: Option<String>,
    pub version: Option<String>,
    pub kind: String,
    pub language: Language,
    /// One line.
    pub description: String,
    pub license: Option<String>,
    pub homepage: Option<String>,
}

/// What a plugin is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Language {
    Rust,
    Python,
    JavaScript,
}

impl Language {
    pub fn word(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Python => "python",
            Self::JavaScript => "javascript",
        }
    }
}

/// `[limits]`: bytes and units of fuel, where the world's defaults don't do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsAsked {
    pub memory: Option<u64>,
    pub fuel: Option<u64>,
}

/// `[test]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestSection {
    /// The folder of case files, under the project's.
    pub cases: PathBuf,
}

impl Default for TestSection {
    fn default() -> Self {
        Self { cases: "cases".into() }
    }
}

impl PluginToml {
    /// Of the project in `dir`.
    pub fn read(dir: &Path) -> Result<Self, Error> {
        let path = dir.join("plugin.toml");
        if !path.is_file() {
            return Err(Error::NoProject {
                dir: dir.to_owned(),
                file: "plugin.toml",
            });
        }
        let text = read_text(&path, MAX_PLUGIN_TOML)?;
        let said: Self = toml::from_str(&text).map_err(|error| Error::malformed(&path, error))?;
        if !["policy", "step", "gate"].contains(&said.plugin.kind.as_str()) {
            let problem = format!("`kind` is policy, step or gate, not `{:.80}`", said.plugin.kind);
            return Err(Error::malformed(&path, problem));
        }
        if said.plugin.description.contains('\n') {
            return Err(Error::malformed(&path, "`description` is one line"));
        }
        Ok(said)
    }

    /// Name and version of a plugin that no cargo knows, fit to be written into code.
    pub fn named(&self) -> Result<(&str, &str), Error> {
        let language = self.plugin.language.word();
        let said = self.plugin.name.as_deref().zip(self.plugin.version.as_deref());
        let (name, version) = said.ok_or_else(|| {
            Error::Project(format!(
                "plugin.toml: a plugin in {language} has its `name` and `version` there"
            ))
        })?;
        let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-.+".contains(&b));
        match plain(name) && plain(version) {
            true => Ok((name, version)),
            false => Err(Error::Project(
                "plugin.toml: `name` and `version` are of letters, digits, `-`, `.` and `+`".into(),
            )),
        }
    }
}

/// What cargo says of the package in a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    pub name: String,
    pub version: String,
    /// The name of its cdylib.
    pub library: String,
    /// Where the workspace is that it belongs to; may be its own folder.
    pub workspace: PathBuf,
    pub target: PathBuf,
}

impl Package {
    /// Asks `cargo metadata`, which resolves nothing and needs no network.
    pub fn of(dir: &Path) -> Result<Self, Error> {
        let manifest = dir.join("Cargo.toml");
        if !manifest.is_file() {
            return Err(Error::NoProject {
                dir: dir.to_owned(),
                file: "Cargo.toml",
            });
        }
        let manifest = manifest.canonicalize().map_err(Error::io("finding", &manifest))?;
        let out = clawker_plugin_build::cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(&manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| Error::Io {
                doing: "starting cargo (is Rust installed?)".into(),
                error,
            })?;
        if !out.status.success() {
            let said = String::from_utf8_lossy(&out.stderr);
            return Err(Error::Project(format!("cargo can't read it: {}", said.trim())));
        }
        let said: Metadata = serde_json::from_slice(&out.stdout).map_err(|error| Error::malformed(&manifest, error))?;
        said.package(&manifest)
    }
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    workspace_root: PathBuf,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    name: String,
    version: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    name: String,
    crate_types: Vec<String>,
}

impl Metadata {
    fn package(self, manifest: &Path) -> Result<Package, Error> {
        let found = self
            .packages
            .into_iter()
            .find(|package| package.manifest_path == manifest);
        let Some(package) = found else {
            return Err(Error::Project(format!(
                "{} is a workspace, not a package: name the folder of a plugin in it",
                manifest.display()
            )));
        };
        let library = package
            .targets
            .into_iter()
            .find(|target| target.crate_types.iter().any(|kind| kind == "cdylib"));
        let Some(library) = library else {
            return Err(Error::Project(format!(
                "`{}` has no library that can be a plugin: put `[lib] crate-type = [\"cdylib\"]` into its Cargo.toml",
                package.name
            )));
        };
        Ok(Package {
            name: package.name,
            version: package.version,
            library: library.name,
            workspace: self.workspace_root,
            target: self.target_directory,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[plugin]\nkind = \"policy\"\nlanguage = \"rust\"\ndescription = \"x\"\n";

    fn read(text: &str) -> Result<PluginToml, Error> {
        let dir = tempfile::tempdir().expect("folder");
        std::fs::write(dir.path().join("plugin.toml"), text).expect("writes");
        PluginToml::read(dir.path())
    }

    #[test]
    fn a_plugin_toml_is_read_with_its_defaults() {
        let said = read(GOOD).expect("good");
        assert_eq!(
            (said.plugin.language, said.test.cases.to_str()),
            (Language::Rust, Some("cases"))
        );
        let more = format!("{GOOD}[asks]\nexec = [\"git *\"]\n[limits]\nfuel = 7\n[test]\ncases = \"t\"\n");
        assert_eq!(read(&more).expect("good").limits.fuel, Some(7));
    }

    #[test]
    fn a_plugin_toml_out_of_bounds_is_refused_with_what_is_wrong() {
        for (text, says) in [
            (GOOD.replace("policy", "police"), "policy, step or gate"),
            (GOOD.replace("\"x\"", "\"x\\ny\""), "one line"),
            (GOOD.replace("kind", "kid"), "unknown field `kid`"),
            (
                format!("{GOOD}#{}", "x".repeat(MAX_PLUGIN_TOML as usize)),
                "the limit is 65536",
            ),
        ] {
            let error = read(&text).expect_err(says).to_string();
            assert!(error.contains(says), "{error}");
        }
        let dir = tempfile::tempdir().expect("folder");
        let error = PluginToml::read(dir.path()).expect_err("none").to_string();
        assert!(error.contains("clawker plugin new"), "{error}");
    }

    #[test]
    fn a_package_without_a_cdylib_is_told_what_to_write() {
        let dir = tempfile::tempdir().expect("folder");
        let dir = dir.path();
        std::fs::create_dir(dir.join("src")).expect("folder");
        std::fs::write(dir.join("src/lib.rs"), "").expect("writes");
        let manifest = "[package]\nname = \"a-b\"\nversion = \"0.2.0\"\nedition = \"2024\"\n[workspace]\n";
        std::fs::write(dir.join("Cargo.toml"), manifest).expect("writes");
        let error = Package::of(dir).expect_err("no cdylib").to_string();
        assert!(error.contains("crate-type = [\"cdylib\"]"), "{error}");
        std::fs::write(
            dir.join("Cargo.toml"),
            format!("{manifest}[lib]\ncrate-type = [\"cdylib\"]\n"),
        )
        .expect("writes");
        let package = Package::of(dir).expect("a plugin");
        assert_eq!(
            (
                package.name.as_str(),
                package.version.as_str(),
                package.library.as_str()
            ),
            ("a-b", "0.2.0", "a_b")
        );
    }
}
