//! Runs a script once, as the image's user.
//!
//! The plan sees to once in a container's life. The marker that is left in the user's home sees to homes that outlive
//! their container: one script runs once in a home, and another script is another.

mod script;

use clawker_plugin_sdk::step::{Container, Context, Failure, File, Step};
use script::Script;

struct PostInit;

impl Step for PostInit {
    const NAME: &str = "post-init";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Script;

    fn run(_: &Context, script: Script, container: &mut impl Container) -> Result<String, Failure> {
        let marker = marker(&script);
        match container.read_file(&marker, 4096) {
            Ok(_) => return Ok(format!("ran before, says {marker}")),
            Err(error) if error.code == "not_found" => {}
            Err(error) => return Err(error.into()),
        }
        script.run(Self::NAME, container)?;
        container.write_file(File::new(&marker, "ran\n"))?;
        Ok("ran".into())
    }
}

/// Named after what runs.
fn marker(script: &Script) -> String {
    let words = script.interpreter.iter().chain([&script.script]);
    let hash = words
        .flat_map(|word| word.bytes().chain([0]))
        .fold(FNV_OFFSET, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(FNV_PRIME)
        });
    format!("~/.config/clawker/post-init-{hash:016x}")
}

/// FNV-1a, 64 bits: tells scripts apart, and protects against nothing.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0100_0000_01b3;

clawker_plugin_sdk::export_step!(PostInit);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::{Output, TestContainer};

    use super::*;

    fn run(container: &mut TestContainer, settings: &str) -> Result<String, Failure> {
        let settings = serde_json::from_str(settings).expect("settings");
        PostInit::run(&Context::of("clawker.a"), settings, container)
    }

    #[test]
    fn a_script_runs_once_in_a_home() {
        let mut container = TestContainer::default();
        assert_eq!(run(&mut container, r#"{"script":"touch x"}"#), Ok("ran".into()));
        let said = run(&mut container, r#"{"script":"touch x"}"#).expect("runs");
        assert!(said.starts_with("ran before"), "{said}");
        assert_eq!(container.commands.len(), 1);
        let command = &container.commands[0];
        assert_eq!(command.argv, ["sh", "-e", "-c", "touch x", "post-init"]);
        assert_eq!((command.timeout, command.user.as_deref()), (600, None));
        run(&mut container, r#"{"script":"touch y"}"#).expect("another script");
        assert_eq!(container.commands.len(), 2);
    }

    #[test]
    fn a_script_that_fails_leaves_no_marker() {
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
        assert_eq!(
            run(&mut container, r#"{"script":"false"}"#),
            Ok("ran".into()),
            "it runs again"
        );
    }

    #[test]
    fn a_secret_is_on_its_standard_input_alone() {
        let mut container = TestContainer::default();
        container.secrets.insert("TOKEN".into(), "hunter2\n".into());
        let settings = r#"{"script":"read t","secret":"TOKEN","interpreter":["python3","-c"],"cwd":"/w","timeout":9}"#;
        run(&mut container, settings).expect("runs");
        assert_eq!(container.stdins, [b"hunter2\n"]);
        let command = &container.commands[0];
        assert_eq!(command.argv, ["python3", "-c", "read t", "post-init"]);
        assert_eq!((command.cwd.as_deref(), command.timeout), (Some("/w"), 9));
    }

    #[test]
    fn settings_that_make_no_sense_are_named() {
        for (settings, says) in [
            (r#"{"script":"x","interpreter":[]}"#, "`interpreter` is empty"),
            (r#"{"script":"x","timeout":0}"#, "`timeout` of 0 s"),
            (r#"{"script":"x","timeout":601}"#, "`timeout` of 601 s"),
        ] {
            let why = run(&mut TestContainer::default(), settings).expect_err(says);
            assert!(why.message.contains(says), "{why}");
        }
        assert!(serde_json::from_str::<Script>(r#"{"script":"x","colour":1}"#).is_err());
        assert!(serde_json::from_str::<Script>("{}").is_err());
    }
}
