//! A project's file, `clawker.yaml`: which agents a project has, and what each is.
//!
//! Pure: text in, definitions out. Paths and secrets are looked up by [`request`], and what the host thinks of it is the
//! control plane's to say.

pub mod request;
pub mod summary;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Most bytes of a file.
pub const MAX_FILE: usize = 256 * 1024;
/// Most agents of one file.
const MAX_AGENTS: usize = 256;

/// A project and its agents.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "clawker.yaml")]
pub struct ProjectFile {
    /// Name of the project: 1 to 24 of a-z, 0-9 and `-`. Agents without one have no project.
    #[serde(default)]
    pub project: Option<String>,
    /// Its agents by name: 1 to 24 of a-z, 0-9 and `-` each.
    pub agents: BTreeMap<String, AgentDefinition>,
}

/// One agent.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AgentDefinition {
    /// The image to make it from.
    pub image: String,
    /// Its command and arguments, in place of the image's.
    #[serde(default)]
    pub command: Vec<String>,
    /// `user`, `uid`, `user:group`, `uid:gid`, or `host` for your own uid:gid.
    #[serde(default)]
    pub user: Option<String>,
    /// Where the command runs.
    #[serde(default)]
    pub workdir: Option<String>,
    /// Environment variables; one without a value takes your own.
    #[serde(default)]
    pub env: BTreeMap<String, Option<String>>,
    /// Secrets by name.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretDefinition>,
    /// `SRC:DST` or `SRC:DST:ro`; SRC is the name of a volume, or a path, from the file's folder if it begins with `.`
    #[serde(default)]
    pub mounts: Vec<String>,
    /// Ports that others may reach: `[[ADDR:]PORT:]PORT[/udp]`.
    #[serde(default)]
    pub publish: Vec<String>,
    /// Where it may connect to: `ADDR:PORT`, or `open` alone.
    #[serde(default)]
    pub egress: Vec<String>,
    /// `none`, or the name of a network.
    #[serde(default)]
    pub network: Option<String>,
    #[serde(default)]
    pub resources: ResourceDefinition,
    /// When the control plane starts it again: `no`, `on-failure[:TIMES]`, `always` or `unless-stopped`.
    #[serde(default)]
    pub restart: Option<String>,
    /// What it does when it hears nothing of a control plane for long: `continue`, `freeze` or `stop`, and `:SECONDS`.
    #[serde(default)]
    pub on_orphan: Option<String>,
    /// What it does when there is no control plane at its start: `await` or `await:SECONDS`.
    #[serde(default)]
    pub on_absent: Option<String>,
    /// What prepares it before its command runs, after the steps of the host.
    #[serde(default)]
    pub steps: Vec<StepDefinition>,
}

/// A secret from a file of this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretDefinition {
    /// A path; from the file's folder unless it is absolute or begins with `~/`.
    pub file: String,
    #[serde(default, rename = "as")]
    pub kind: SecretKind,
}

/// Who gets a secret, and how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecretKind {
    /// The command, as a variable of its environment.
    #[default]
    Env,
    /// The command, as a file whose path is in the variable `<NAME>_FILE`.
    File,
    /// Steps that name it in their settings, and not the command.
    Step,
}

/// What it may use at most.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResourceDefinition {
    /// Like `512m` or `1.5g`.
    #[serde(default)]
    pub memory: Option<String>,
    /// Like `1.5`.
    #[serde(default)]
    pub cpus: Option<String>,
    /// Processes.
    #[serde(default)]
    pub pids: Option<u32>,
}

/// A step, by the name of its plugin.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDefinition {
    /// Such as `config`, `git`, `git-credentials`, `ssh`, `post-init` or `pre-run`.
    pub plugin: String,
    /// What the plugin takes: docs/steps.md. They are journaled, so no secret belongs in them.
    #[serde(default)]
    pub settings: Map<String, Value>,
    /// `once` in the container's life or at each `start`; without it as that plugin is usually run.
    #[serde(default)]
    pub when: Option<When>,
    /// Whether the command runs although this failed.
    #[serde(default)]
    pub on_failure: Option<OnFailure>,
    /// Seconds for the step in all; 600 unless given.
    #[serde(default)]
    pub timeout: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum When {
    Once,
    Start,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// It doesn't (usual).
    Halt,
    /// It does.
    Continue,
}

/// What is wrong with a project's file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("it has {len} bytes, the limit is {MAX_FILE}")]
    TooLarge { len: usize },
    /// With line and column, where there are any.
    #[error("{0}")]
    Yaml(String),
    #[error("it has {count} agents, the limit is {MAX_AGENTS}")]
    TooMany { count: usize },
    #[error("{key}: {problem}")]
    Value { key: String, problem: String },
}

impl FileError {
    pub fn value(key: impl Into<String>, problem: impl std::fmt::Display) -> Self {
        Self::Value {
            key: key.into(),
            problem: problem.to_string(),
        }
    }
}

/// Reads the text of a file. Names and values are checked when it becomes requests.
pub fn parse(text: &str) -> Result<ProjectFile, FileError> {
    if text.len() > MAX_FILE {
        return Err(FileError::TooLarge { len: text.len() });
    }
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: 32,
            max_nodes: 20_000,
            max_events: 50_000,
            max_aliases: 64,
            max_anchors: 64,
            max_documents: 1,
        },
        strict_booleans: true,
        with_snippet: false,
    };
    let file: ProjectFile =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| FileError::Yaml(error.to_string()))?;
    if file.agents.len() > MAX_AGENTS {
        let count = file.agents.len();
        return Err(FileError::TooMany { count });
    }
    Ok(file)
}

/// The JSON Schema of a project's file, as `docs/clawker.schema.json` has it.
pub fn schema() -> String {
    let schema = schemars::schema_for!(ProjectFile);
    // A schema is made of JSON values and can always be written.
    let mut text = serde_json::to_string_pretty(&schema).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        parse(text).expect_err(text).to_string()
    }

    #[test]
    fn a_small_file_is_read() {
        let file = parse("project: web\nagents:\n  scout:\n    image: alpine\n    env: {A: 1, B: ~}\n").expect("reads");
        assert_eq!(file.project.as_deref(), Some("web"));
        let scout = &file.agents["scout"];
        assert_eq!((scout.image.as_str(), scout.steps.len()), ("alpine", 0));
        assert_eq!(scout.env["A"].as_deref(), Some("1"));
        assert_eq!(scout.env["B"], None);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        for (text, key, line) in [
            ("agents: {}\ncolour: red\n", "colour", "2"),
            ("agents:\n  a:\n    image: x\n    imgae: y\n", "imgae", "4"),
            (
                "agents:\n  a:\n    image: x\n    steps:\n      - plugin: git\n        setings: {}\n",
                "setings",
                "6",
            ),
            (
                "agents:\n  a:\n    image: x\n    resources: {memroy: 1g}\n",
                "memroy",
                "4",
            ),
        ] {
            let said = problem(text);
            assert!(said.contains(key) && said.contains(line), "{said}");
        }
    }

    #[test]
    fn a_key_that_is_given_twice_is_an_error() {
        for text in [
            "agents:\n  a:\n    image: x\n  a:\n    image: y\n",
            "agents:\n  a:\n    image: x\n    image: y\n",
            "agents:\n  a:\n    image: x\n    env: {A: 1, A: 2}\n",
        ] {
            let said = problem(text);
            assert!(said.contains("duplicate"), "{said}");
        }
    }

    #[test]
    fn what_is_missing_or_of_another_type_is_named() {
        for (text, says) in [
            ("project: web\n", "agents"),
            ("agents:\n  a: {}\n", "image"),
            (
                "agents:\n  a:\n    image: x\n    steps: [{plugin: git, on_failure: hope}]\n",
                "hope",
            ),
            (
                "agents:\n  a:\n    image: x\n    steps: [{plugin: git, when: never}]\n",
                "never",
            ),
            ("agents: [", ""),
        ] {
            let said = problem(text);
            assert!(said.contains(says), "{said}");
        }
    }

    #[test]
    fn aliases_do_not_explode_and_depth_and_size_have_limits() {
        let mut bomb = String::from("x0: &x0 [a, a, a, a, a, a, a, a, a]\n");
        for n in 1..12 {
            let before = vec![format!("*x{}", n - 1); 9].join(", ");
            bomb.push_str(&format!("x{n}: &x{n} [{before}]\n"));
        }
        problem(&bomb);
        let deep = format!("agents: {}{}", "[".repeat(1000), "]".repeat(1000));
        problem(&deep);
        assert_eq!(
            parse(&" ".repeat(MAX_FILE + 1)),
            Err(FileError::TooLarge { len: MAX_FILE + 1 })
        );
        let many: String = (0..=MAX_AGENTS).map(|n| format!("  a{n}: {{image: x}}\n")).collect();
        assert_eq!(
            parse(&format!("agents:\n{many}")),
            Err(FileError::TooMany { count: MAX_AGENTS + 1 })
        );
        problem("agents: {}\n---\nagents: {}\n");
    }

    #[test]
    fn settings_are_json() {
        let text = "agents:\n  a:\n    image: x\n    steps:\n      - plugin: config\n        settings:\n          files: [{path: ~/.x, json: {n: 1, b: true, t: 'yes', z: null}}]\n";
        let file = parse(text).expect("reads");
        let settings = Value::Object(file.agents["a"].steps[0].settings.clone());
        assert_eq!(
            settings,
            serde_json::json!({"files": [{"path": "~/.x", "json": {"n": 1, "b": true, "t": "yes", "z": null}}]})
        );
    }
}
