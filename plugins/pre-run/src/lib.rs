//! Runs a script at each start, as the image's user, before the agent's command.

#[path = "../../post-init/src/script.rs"]
mod script;

use clawker_plugin_sdk::step::{Container, Context, Failure, Step};
use script::Script;

struct PreRun;

impl Step for PreRun {
    const NAME: &str = "pre-run";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Script;

    fn run(_: &Context, script: Script, container: &mut impl Container) -> Result<String, Failure> {
        script.run(Self::NAME, container)?;
        Ok("ran".into())
    }
}

clawker_plugin_sdk::export_step!(PreRun);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::{Output, TestContainer};

    use super::*;

    fn run(container: &mut TestContainer, settings: &str) -> Result<String, Failure> {
        let settings = serde_json::from_str(settings).expect("settings");
        PreRun::run(&Context::of("clawker.a"), settings, container)
    }

    #[test]
    fn a_script_runs_each_time_and_leaves_nothing() {
        let mut container = TestContainer::default();
        for _ in 0..2 {
            assert_eq!(run(&mut container, r#"{"script":"echo hi"}"#), Ok("ran".into()));
        }
        assert_eq!(container.commands.len(), 2);
        assert_eq!(container.commands[0].argv, ["sh", "-e", "-c", "echo hi", "pre-run"]);
        assert!(container.files.is_empty());
    }

    #[test]
    fn a_script_that_fails_fails_the_step() {
        let output = Output {
            code: 3,
            stdout: vec![],
            stderr: b"no\n".to_vec(),
        };
        let mut container = TestContainer {
            outputs: vec![output],
            ..Default::default()
        };
        let failed = run(&mut container, r#"{"script":"false"}"#).expect_err("failed");
        assert_eq!(failed.message, "exit code 3: no (exit_nonzero)");
    }
}
