//! New projects: a plugin that does something small and sensible, with its tests, its first case and the SDK.

use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::project::Language;

/// The SDK's files, by their path below `sdk/`.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));

/// The contract's files, by name.
pub(crate) fn wit() -> impl Iterator<Item = (&'static str, &'static str)> {
    SDK.iter()
        .copied()
        .filter(|(path, _)| path.starts_with("plugin-sdk/wit/"))
}

/// Kinds of plugin that there is a template of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Template {
    Policy,
    Step,
}

impl Template {
    fn word(self) -> &'static str {
        match self {
            Self::Policy => "policy",
            Self::Step => "step",
        }
    }

    fn description(self) -> &'static str {
        match self {
            Self::Policy => "Freezes an agent when too many of its execs fail within a minute",
            Self::Step => "Writes a short note into an agent's home",
        }
    }

    fn files(self, language: Language) -> Vec<(&'static str, &'static str)> {
        match language {
            Language::Rust => self.rust(),
            Language::Python => python(),
            Language::JavaScript => javascript(),
        }
    }

    fn rust(self) -> Vec<(&'static str, &'static str)> {
        let mut files = vec![
            ("Cargo.toml", include_str!("../templates/Cargo.toml.in")),
            ("plugin.toml", include_str!("../templates/plugin.toml.in")),
            ("README.md", include_str!("../templates/README.md.in")),
            (".gitignore", include_str!("../templates/gitignore")),
            ("sdk/Cargo.toml", include_str!("../templates/sdk.toml")),
        ];
        files.extend(match self {
            Self::Policy => vec![
                ("src/lib.rs", include_str!("../templates/policy/lib.rs.in")),
                ("cases/first.toml", include_str!("../templates/policy/case.toml")),
            ],
            Self::Step => vec![
                ("src/lib.rs", include_str!("../templates/step/lib.rs.in")),
                ("cases/first.toml", include_str!("../templates/step/case.toml")),
            ],
        });
        files
    }
}

fn python() -> Vec<(&'static str, &'static str)> {
    vec![
        ("app.py", include_str!("../templates/python/app.py")),
        ("test_app.py", include_str!("../templates/python/test_app.py")),
        ("plugin.toml", include_str!("../templates/python/plugin.toml.in")),
        ("cases/first.toml", include_str!("../templates/python/case.toml")),
        ("README.md", include_str!("../templates/python/README.md.in")),
        (".gitignore", include_str!("../templates/python/gitignore")),
        (
            "clawker_plugin.py",
            include_str!("../templates/python/clawker_plugin.py"),
        ),
    ]
}

fn javascript() -> Vec<(&'static str, &'static str)> {
    vec![
        ("app.js", include_str!("../templates/javascript/app.js")),
        ("app.test.js", include_str!("../templates/javascript/app.test.js")),
        ("plugin.toml", include_str!("../templates/javascript/plugin.toml.in")),
        ("package.json", include_str!("../templates/javascript/package.json")),
        ("cases/first.toml", include_str!("../templates/python/case.toml")),
        ("README.md", include_str!("../templates/javascript/README.md.in")),
        (".gitignore", include_str!("../templates/javascript/gitignore")),
        ("sdk/build.mjs", include_str!("../templates/javascript/sdk/build.mjs")),
        ("sdk/clawker.js", include_str!("../templates/javascript/sdk/clawker.js")),
        ("sdk/entry.js", include_str!("../templates/javascript/sdk/entry.js")),
    ]
}

/// Writes a project into `dir`, which it makes; one that holds anything is left as it is. Says what was written, the
/// SDK as one folder.
pub fn create(dir: &Path, name: &str, template: Template, language: Language) -> Result<Vec<PathBuf>, Error> {
    check_name(name)?;
    if language != Language::Rust && template != Template::Policy {
        let language = language.word();
        return Err(Error::Unusable(format!(
            "in {language} there are policies alone: write a step in Rust"
        )));
    }
    fs::create_dir_all(dir).map_err(Error::io("making", dir))?;
    let mut there = fs::read_dir(dir).map_err(Error::io("listing", dir))?;
    if there.next().is_some() {
        let dir = dir.display();
        return Err(Error::Unusable(format!(
            "{dir} isn't empty: name another folder with `--dir`"
        )));
    }
    let mut written = Vec::new();
    for (file, text) in template.files(language) {
        let text = match language {
            // Code has its name from the build.
            Language::Python | Language::JavaScript if is_code(file) => text.to_owned(),
            _ => text
                .replace("NAME", name_in(file, name))
                .replace("KIND", template.word())
                .replace("DESCRIPTION", template.description()),
        };
        write(&dir.join(file), &text)?;
        written.push(file.into());
    }
    match language {
        Language::Rust => {
            for (file, text) in SDK {
                write(&dir.join("sdk").join(file), text)?;
            }
            written.retain(|file: &PathBuf| !file.starts_with("sdk"));
            written.push("sdk/".into());
        }
        Language::Python | Language::JavaScript => {
            for (file, text) in wit() {
                let name = Path::new(file).file_name().unwrap_or_default();
                write(&dir.join("wit").join(name), text)?;
            }
            written.push("wit/".into());
        }
    }
    Ok(written)
}

fn is_code(file: &str) -> bool {
    [".py", ".js", ".mjs"].iter().any(|kind| file.ends_with(kind))
}

/// The word stands for the plugin's name in files that are about it; code has it from cargo, and its NAME is a
/// constant's.
fn name_in<'a>(file: &str, name: &'a str) -> &'a str {
    match file {
        "Cargo.toml" | "README.md" | "plugin.toml" => name,
        _ => "NAME",
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(Error::io("making", dir))?;
    }
    fs::write(path, text).map_err(Error::io("writing", path))
}

/// The name of a plugin that cargo takes as a package's too.
fn check_name(name: &str) -> Result<(), Error> {
    let good = (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    // Names of crates that a plugin is built from would be taken twice, `test` is cargo's own.
    let taken = [
        "test",
        "core",
        "std",
        "alloc",
        "serde",
        "clawker-plugin-sdk",
        "clawker-plugin-sdk-macros",
    ]
    .contains(&name);
    if good && !taken {
        return Ok(());
    }
    Err(Error::Unusable(format!(
        "`{name:.80}` can't be a plugin's name: 1 to 64 of a-z, 0-9 and `-`, a letter first, no `-` last, and no crate's \
         that it is built from"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cases::{Case, file};
    use crate::project::PluginToml;

    #[test]
    fn a_new_project_is_one_and_has_the_sdk_and_a_case() {
        for (template, kind) in [
            (Template::Policy, clawker_plugin_host::Kind::Policy),
            (Template::Step, clawker_plugin_host::Kind::Step),
        ] {
            let dir = tempfile::tempdir().expect("folder");
            let dir = dir.path().join("p");
            create(&dir, "my-plugin", template, Language::Rust).expect("creates");
            let said = PluginToml::read(&dir).expect("plugin.toml");
            assert_eq!(said.plugin.kind, template.word());
            let package = crate::project::Package::of(&dir).expect("a package");
            assert_eq!(package.name, "my-plugin");
            assert_eq!(package.workspace, dir.canonicalize().expect("there"));
            assert!(dir.join("sdk/plugin-sdk/wit/policy.wit").is_file());
            assert!(dir.join("sdk/plugin-sdk-macros/src/lib.rs").is_file());
            let case = file::read(&dir.join("cases/first.toml"), kind).expect("a case");
            assert_eq!(matches!(case, Case::Policy(_)), template == Template::Policy);
            let error = create(&dir, "my-plugin", template, Language::Rust).expect_err("there");
            assert!(error.to_string().contains("isn't empty"), "{error}");
        }
    }

    #[test]
    fn names_that_cargo_or_a_host_would_not_take_are_refused() {
        for name in ["", "A", "-a", "a-", "1a", "a_b", "test", "serde", &"a".repeat(65)] {
            assert!(check_name(name).is_err(), "{name}");
        }
        assert!(check_name("oom-alert-2").is_ok());
    }

    #[test]
    fn the_sdks_workspace_has_what_its_crates_take_from_it() {
        let workspace: toml::Table = toml::from_str(include_str!("../templates/sdk.toml")).expect("TOML");
        let given = workspace["workspace"]["dependencies"].as_table().expect("a table");
        let manifests = SDK.iter().filter(|(path, _)| path.ends_with("Cargo.toml"));
        for (path, text) in manifests {
            let manifest: toml::Table = toml::from_str(text).expect("TOML");
            let mut tables = vec![manifest.get("dependencies")];
            let targets = manifest.get("target").and_then(toml::Value::as_table);
            tables.extend(
                targets
                    .into_iter()
                    .flatten()
                    .map(|(_, target)| target.get("dependencies")),
            );
            for (name, how) in tables.into_iter().flatten().filter_map(toml::Value::as_table).flatten() {
                let from_workspace = how.get("workspace").is_some();
                assert!(
                    !from_workspace || given.contains_key(name),
                    "{path} takes {name} from the workspace"
                );
            }
        }
    }
}
