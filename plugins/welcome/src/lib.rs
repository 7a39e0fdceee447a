//! Greets an agent: writes a file that names the agent and its start, then runs a command if one is configured.
//!
//! Without a command it needs nothing of the image, not even a shell, so it works in one made `FROM scratch`.

use clawker_plugin_sdk::step::{Command, Container, Context, Failure, File, Step};

struct Welcome;

#[derive(Debug, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    path: String,
    command: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            path: "/etc/clawker-welcome".into(),
            command: Vec::new(),
        }
    }
}

impl Step for Welcome {
    const NAME: &str = "welcome";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Settings;

    fn run(context: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
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
}

clawker_plugin_sdk::export_step!(Welcome);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::{EffectError, Output, TestContainer};

    use super::*;

    fn settings(json: &str) -> Settings {
        serde_json::from_str(json).expect("settings")
    }

    #[test]
    fn by_default_it_writes_a_file_and_runs_nothing() {
        let mut container = TestContainer::default();
        let said = Welcome::run(&Context::of("clawker.p.a"), settings("{}"), &mut container).expect("runs");
        assert_eq!(said, "wrote /etc/clawker-welcome");
        assert_eq!(
            container.files["/etc/clawker-welcome"],
            b"welcome, clawker.p.a; this is start 1\n"
        );
        assert!(container.commands.is_empty());
    }

    #[test]
    fn a_command_runs_after_the_file_is_there() {
        let mut container = TestContainer::default();
        let settings = settings(r#"{"path":"/w","command":["touch","/x"]}"#);
        let said = Welcome::run(&Context::of("clawker.a"), settings, &mut container).expect("runs");
        assert_eq!(said, "wrote /w, ran touch");
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
        let failed = Welcome::run(
            &Context::of("clawker.a"),
            settings(r#"{"command":["x"]}"#),
            &mut container,
        );
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
        let failed = Welcome::run(&Context::of("clawker.a"), settings("{}"), &mut container);
        assert_eq!(failed, Err(Failure::new("read-only (denied)")));
    }

    #[test]
    fn the_schema_names_what_the_settings_have() {
        let schema: serde_json::Value = serde_json::from_str(Welcome::SETTINGS_SCHEMA).expect("JSON");
        let properties = schema["properties"].as_object().expect("properties");
        let defaults: serde_json::Map<_, _> = properties
            .iter()
            .map(|(key, property)| (key.clone(), property["default"].clone()))
            .collect();
        let read: Settings = serde_json::from_value(defaults.into()).expect("the schema's defaults are settings");
        assert_eq!(
            (read.path, read.command),
            (Settings::default().path, Settings::default().command)
        );
        assert!(serde_json::from_str::<Settings>(r#"{"pth":"/x"}"#).is_err());
    }
}
