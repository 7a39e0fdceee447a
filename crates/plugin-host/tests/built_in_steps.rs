//! The built-in steps in the sandbox, as `cargo xtask plugins` built them: what they ask for, effect by effect.

mod guests;

use std::sync::Arc;

use clawker_model::plan::WriteWhen;
use clawker_model::{Effect, EffectResult, FullName, Piece, SecretForm};
use clawker_plugin_host::{Host, Kind, Plugin, StepCall, StepContext, StepTurn, check_settings, note, secrets_named};

struct Loaded {
    host: Host,
    plugin: Arc<Plugin>,
}

fn load(name: &str, imports: &[&str]) -> Loaded {
    let (host, plugin) = guests::load(&guests::first_party(name)).expect("loads");
    assert_eq!((plugin.name.as_str(), plugin.kind), (name, Kind::Step));
    assert_eq!(plugin.imports, imports, "{name} asks for what it uses");
    Loaded { host, plugin }
}

impl Loaded {
    fn turn(&self, settings: &str, history: &[(Effect, EffectResult)]) -> StepTurn {
        check_settings(&self.plugin, settings).expect("the schema takes them");
        self.host.step(&StepCall {
            plugin: self.plugin.clone(),
            settings: settings.into(),
            secrets: secrets_named(&self.plugin, settings),
            context: StepContext {
                agent: FullName::parse("clawker.p.a").expect("name"),
                start: 1,
                first_start: true,
                image: "image".into(),
            },
            history: Arc::new(
                history
                    .iter()
                    .map(|(effect, result)| (note(effect), result.clone()))
                    .collect(),
            ),
        })
    }

    /// Answers each effect with the next of `answers`; the effects, and what the step said at its end.
    fn run(&self, settings: &str, answers: Vec<EffectResult>) -> (Vec<Effect>, StepTurn) {
        let mut history = Vec::new();
        for answer in answers {
            let StepTurn::Effect(effect) = self.turn(settings, &history) else {
                panic!("no effect after {history:?}")
            };
            history.push((effect, answer));
        }
        let end = self.turn(settings, &history);
        (history.into_iter().map(|(effect, _)| effect).collect(), end)
    }
}

fn absent() -> EffectResult {
    EffectResult::Failed {
        code: "not_found".into(),
        message: "no such file".into(),
    }
}

fn holds(content: &str) -> EffectResult {
    EffectResult::ReadFile {
        content: content.into(),
    }
}

const WRITTEN: EffectResult = EffectResult::WriteFile { written: true };

fn ended(code: i32) -> EffectResult {
    EffectResult::Exec {
        code,
        stdout: vec![],
        stderr: b"why\n".to_vec(),
    }
}

fn done(message: &str) -> StepTurn {
    StepTurn::Completed {
        message: message.into(),
    }
}

fn text(effect: &Effect) -> String {
    let Effect::WriteFile { content, .. } = effect else {
        panic!("{effect:?} writes no file")
    };
    let piece = |piece: &Piece| match piece {
        Piece::Bytes { bytes } => String::from_utf8_lossy(bytes).into_owned(),
        Piece::Secret { name, form } => format!("<{name} {form:?}>"),
    };
    content.iter().map(piece).collect()
}

#[test]
fn config_copies_and_merges() {
    let step = load("config", &["log", "read-file", "settings", "write-file"]);
    let settings = r#"{"files":[{"path":"~/.rc","content":"x"},{"path":"~/.json","json":{"b":2}}]}"#;
    let (effects, end) = step.run(settings, vec![WRITTEN, holds(r#"{"z":1}"#), WRITTEN]);
    assert_eq!(end, done("2 of 2 files written"));
    assert!(
        matches!(&effects[0], Effect::WriteFile { path, mode: 0o644, when: WriteWhen::IfAbsent, .. } if path == "~/.rc")
    );
    assert!(matches!(&effects[2], Effect::WriteFile { path, mode: 0o600, .. } if path == "~/.json"));
    assert_eq!(text(&effects[2]), "{\n  \"z\": 1,\n  \"b\": 2\n}\n");
    let (_, end) = step.run(
        settings,
        vec![EffectResult::WriteFile { written: false }, holds(r#"{"b":0}"#)],
    );
    assert_eq!(end, done("0 of 2 files written"));
}

#[test]
fn git_lets_nothing_dangerous_through() {
    let step = load("git", &["log", "read-file", "settings", "write-file"]);
    let settings = r#"{"config":"[user]\nname=Ada\n[core]\nfsmonitor=evil\n","keys":["user.*","core.*"],"safe_directories":["/w"]}"#;
    let (effects, end) = step.run(settings, vec![WRITTEN, absent(), WRITTEN]);
    assert_eq!(end, done("wrote 2 values"));
    assert_eq!(
        text(&effects[0]),
        "[user]\n\tname = \"Ada\"\n[safe]\n\tdirectory = \"/w\"\n"
    );
    assert_eq!(text(&effects[2]), "[include]\n\tpath = ~/.config/clawker/gitconfig\n");
}

#[test]
fn git_credentials_never_sees_its_secret() {
    let step = load(
        "git-credentials",
        &["log", "read-file", "secrets", "settings", "write-file"],
    );
    let settings = r#"{"credentials":[{"host":"example.org","secret":"TOKEN"}]}"#;
    assert_eq!(secrets_named(&step.plugin, settings), ["TOKEN"]);
    let (effects, end) = step.run(settings, vec![WRITTEN, WRITTEN, absent(), WRITTEN]);
    assert_eq!(end, done("wrote credentials for 1 hosts"));
    assert_eq!(
        text(&effects[0]),
        "https://x-access-token:<TOKEN Percent>@example.org\n"
    );
    assert!(matches!(&effects[0], Effect::WriteFile { mode: 0o600, .. }));
}

#[test]
fn ssh_adds_what_is_missing() {
    let step = load("ssh", &["log", "read-file", "settings", "write-file"]);
    let settings = r#"{"known_hosts":["a ssh-ed25519 AAAA","b ssh-ed25519 AAAA"]}"#;
    let (effects, end) = step.run(settings, vec![WRITTEN, holds("b ssh-ed25519 AAAA"), WRITTEN]);
    assert_eq!(end, done("1 of 2 hosts added"));
    assert!(matches!(&effects[0], Effect::WriteFile { path, mode: 0o700, .. } if path == "~/.ssh/"));
    assert_eq!(text(&effects[2]), "b ssh-ed25519 AAAA\na ssh-ed25519 AAAA\n");
}

#[test]
fn post_init_runs_once_in_a_home() {
    let step = load(
        "post-init",
        &["exec", "log", "read-file", "secrets", "settings", "write-file"],
    );
    let settings = r#"{"script":"x","secret":"TOKEN"}"#;
    let (effects, end) = step.run(settings, vec![absent(), ended(0), WRITTEN]);
    assert_eq!(end, done("ran"));
    let Effect::Exec { argv, stdin, user, .. } = &effects[1] else {
        panic!("{effects:?}")
    };
    assert_eq!((argv.join(" ").as_str(), user), ("sh -e -c x post-init", &None));
    let secret = Piece::Secret {
        name: "TOKEN".into(),
        form: SecretForm::Plain,
    };
    assert_eq!(stdin, &[secret, Piece::bytes("\n")]);
    let (_, end) = step.run(settings, vec![holds("ran\n")]);
    assert!(matches!(end, StepTurn::Completed { message } if message.starts_with("ran before")));
    let (_, end) = step.run(settings, vec![absent(), ended(3)]);
    assert!(matches!(end, StepTurn::Failed { message } if message.contains("exit code 3: why")));
}

#[test]
fn pre_run_runs_each_time() {
    let step = load("pre-run", &["exec", "log", "secrets", "settings"]);
    let (effects, end) = step.run(r#"{"script":"x"}"#, vec![ended(0)]);
    assert_eq!((effects.len(), end), (1, done("ran")));
}

#[test]
fn a_secret_that_is_not_granted_ends_the_step() {
    let step = load("pre-run", &["exec", "log", "secrets", "settings"]);
    let call = StepCall {
        plugin: step.plugin.clone(),
        settings: r#"{"script":"x","secret":"TOKEN"}"#.into(),
        secrets: vec!["OTHER".into()],
        context: StepContext {
            agent: FullName::parse("clawker.a").expect("name"),
            start: 1,
            first_start: true,
            image: "image".into(),
        },
        history: Arc::default(),
    };
    let what = "secret `TOKEN`".to_owned();
    assert_eq!(step.host.step(&call), StepTurn::Denied { what });
}
