//! Greets an agent: writes a file that names the agent and its start, then runs a command if one is configured.
//!
//! Without a command it needs nothing of the image, not even a shell, so it works in one made `FROM scratch`.

use clawker_plugin_sdk::step::{Command, Container, Context, Failure, File};
use clawker_plugin_sdk::{Settings, step};

#[derive(Debug, Settings)]
struct Settings {
    /// Where the greeting is written, absolute.
    #[settings(default = "/etc/clawker-welcome")]
    path: String,
    /// A command to run after that, program and arguments; it must end with exit code 0.
    #[settings(default)]
    command: Vec<String>,
}

#[step]
fn welcome(context: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
    let greeting = format!("welcome, {}; this is start {}\n", context.agent, context.start);
    container.write_file(File::new(&settings.path, greeting).owner("0:0"))?;
    let wrote = format!("wrote {}", settings.path);
    let Some(program) = settings.command.first().cloned() else {
        return Ok(wrote);
    };
    container
        .exec(Command::new(settings.command))?
        .success()
        .map_err(|why| Failure::new(format!("{program}: {why}")))?;
    Ok(format!("{wrote}, ran {program}"))
}

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::{EffectError, Output, TestContainer};
    use serde_json::{Value, json};

    use super::*;

    fn run(container: &mut TestContainer, settings: Value) -> Result<String, Failure> {
        container.run::<welcome>(&Context::of("clawker.p.a"), settings)
    }

    #[test]
    fn by_default_it_writes_a_file_and_runs_nothing() {
        let mut container = TestContainer::default();
        let said = run(&mut container, json!({}));
        assert_eq!(said, Ok("wrote /etc/clawker-welcome".into()));
        assert_eq!(
            container.files["/etc/clawker-welcome"],
            b"welcome, clawker.p.a; this is start 1\n"
        );
        assert!(container.commands.is_empty());
    }

    #[test]
    fn a_command_runs_after_the_file_is_there() {
        let mut container = TestContainer::default();
        let said = run(&mut container, json!({"path": "/w", "command": ["touch", "/x"]}));
        assert_eq!(said, Ok("wrote /w, ran touch".into()));
        assert_eq!(container.commands[0].argv, ["touch", "/x"]);
    }

    #[test]
    fn a_command_that_fails_fails_the_step() {
        let output = Output {
            code: 4,
            stdout: vec![],
            stderr: b"no\n".to_vec(),
        };
        let mut container = TestContainer {
            outputs: vec![output],
            ..Default::default()
        };
        let failed = run(&mut container, json!({"command": ["x"]}));
        assert_eq!(failed, Err(Failure::new("x: exit code 4: no (exit_nonzero)")));
    }

    #[test]
    fn a_file_that_cannot_be_written_fails_the_step() {
        let broken = EffectError {
            code: "denied".into(),
            message: "read-only".into(),
        };
        let mut container = TestContainer {
            broken: Some(broken),
            ..Default::default()
        };
        assert_eq!(run(&mut container, json!({})), Err(Failure::new("read-only (denied)")));
    }

    #[test]
    fn a_setting_that_it_does_not_know_fails_the_step() {
        assert!(run(&mut TestContainer::default(), json!({"pth": "/x"})).is_err());
    }
}
