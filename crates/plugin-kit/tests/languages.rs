//! New projects in other languages: their own tests, and what their tools make of them, where those tools are.
//!
//! `cargo xtask setup` puts componentize-py into `target/clawker/python`. Packages of Node are nobody's to install here:
//! with a `node_modules` in `target/clawker/javascript` that has componentize-js, the test of JavaScript uses it.

use std::path::{Path, PathBuf};
use std::process::Command;

use clawker_plugin_kit::cases::{self, Report};
use clawker_plugin_kit::project::Language;
use clawker_plugin_kit::template::{self, Template};
use clawker_plugin_kit::{Error, Sandbox, build, javascript, python};

struct Project(tempfile::TempDir);

impl Project {
    fn new(language: Language) -> Self {
        let dir = tempfile::tempdir().expect("folder");
        template::create(&dir.path().join("p"), "failed-execs", Template::Policy, language).expect("a project");
        Self(dir)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("p")
    }

    /// Gives it what was installed once for all projects of these tests.
    fn has(&self, name: &str, from: &str) {
        let ours = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clawker");
        let from = ours.join(from);
        if from.is_dir() {
            std::os::unix::fs::symlink(from, self.path().join(name)).expect("a link");
        }
    }

    /// Whether a test runner of the language's own is content; without it there is nothing to say.
    fn passes(&self, program: &str, args: &[&str]) {
        let ran = Command::new(program)
            .args(args)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .current_dir(self.path())
            .output();
        let Ok(ran) = ran else {
            return println!("skipped: no `{program}` here");
        };
        let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
        assert!(ran.status.success(), "{said}");
    }

    /// Builds it and plays its cases.
    fn plays(&self, language: &str) -> Sandbox {
        let options = build::Options {
            quiet: true,
            ..build::Options::default()
        };
        let built = build::project(&self.path(), options).expect("builds");
        assert_eq!(built.name, "failed-execs");
        let sandbox = Sandbox::load(&built.bytes).expect("loads");
        let manifest = clawker_plugin_package::Manifest::find(&built.bytes).expect("reads");
        let manifest = manifest.expect("a manifest");
        assert_eq!(
            (manifest.language.as_str(), manifest.name.as_str()),
            (language, "failed-execs")
        );
        // The whole world's, used or not, and nothing of WASI.
        assert_eq!(sandbox.plugin.imports, ["log", "settings"]);
        for file in cases::list(&self.path().join("cases")).expect("cases") {
            let report: Report = cases::run(&sandbox, &file, cases::Options::default()).expect("runs");
            assert_eq!(report.failures, Vec::<String>::new());
            // A tenth of what a policy has: an interpreter needs no limits of its own.
            assert!(report.lines.iter().all(|line| line.fuel < 5_000_000), "{report:?}");
        }
        sandbox
    }
}

#[test]
fn a_new_project_in_python_passes_its_own_tests() {
    Project::new(Language::Python).passes("python3", &["-m", "unittest"]);
}

#[test]
fn a_new_project_in_javascript_passes_its_own_tests() {
    Project::new(Language::JavaScript).passes("node", &["--test"]);
}

#[test]
fn a_project_in_python_is_built_and_passes_its_cases() {
    let project = Project::new(Language::Python);
    project.has(".venv", "python");
    if python::tool(&project.path()).is_none() {
        return println!("skipped: no componentize-py here (`cargo xtask setup` tries to install it)");
    }
    let sandbox = project.plays("python");
    let failed = play(
        &sandbox,
        "name = \"x\"\n[[event]]\nkind = \"ExecExited\"\nbody = { exec = \"x\", code = 1 }\nrepeat = 2\n\
         [settings]\nfailures = 2\n",
    );
    assert_eq!(failed.lines.last().map(|line| line.said.len()), Some(1), "{failed:?}");
}

#[test]
fn a_project_in_javascript_is_built_and_passes_its_cases() {
    let project = Project::new(Language::JavaScript);
    project.has("node_modules", "javascript/node_modules");
    if let Err(missing) = javascript::tools(&project.path()) {
        return println!("skipped: {missing}");
    }
    project.plays("javascript");
}

#[test]
fn a_step_in_another_language_than_rust_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    for language in [Language::Python, Language::JavaScript] {
        let error = template::create(&dir.path().join("p"), "a", Template::Step, language).expect_err("no step");
        assert!(error.to_string().contains("policies alone"), "{error}");
    }
}

#[test]
fn what_a_language_lacks_is_said_with_the_commands_that_bring_it() {
    let dir = PathBuf::from("p");
    let python = Error::NoPython { dir }.to_string();
    assert!(
        python.contains("cd p && python3 -m venv .venv && .venv/bin/pip install componentize-py=="),
        "{python}"
    );
    let dir = tempfile::tempdir().expect("folder");
    let javascript = javascript::tools(dir.path()).expect_err("nothing is there").to_string();
    let (node, packages) = ("install Node", "npm install`");
    assert!(
        javascript.contains(node) || javascript.contains(packages),
        "{javascript}"
    );
}

fn play(sandbox: &Sandbox, case: &str) -> Report {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("a.toml");
    std::fs::write(&file, case).expect("writes");
    cases::run(sandbox, &file, cases::Options::default()).expect("runs")
}
