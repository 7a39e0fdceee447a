//! Gives git of the image's user a configuration: what is allowed of the operator's own, and what the settings set.
//!
//! ```text
//! config (text) ─▶ parse ─▶ allowed by `keys`, not dangerous ─┐
//! set ─▶ not dangerous, or an error ──────────────────────────┼─▶ ~/.config/clawker/gitconfig ◀─ ~/.gitconfig
//! safe_directories ─▶ safe.directory ─────────────────────────┘
//! ```
//! Needs nothing of the image, not even git.

mod gitconfig;
mod include;

use std::collections::BTreeMap;

use clawker_plugin_sdk::step::{Container, Context, Failure, Step};
use gitconfig::{Entry, filtered, parse, write};

/// What passes of `config` unless the settings say otherwise.
const USUAL: &[&str] = &[
    "user.name",
    "user.email",
    "init.defaultbranch",
    "core.autocrlf",
    "pull.rebase",
    "pull.ff",
    "push.default",
    "push.autosetupremote",
    "rebase.autostash",
    "color.*",
];

struct Git;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    config: String,
    keys: Option<Vec<String>>,
    set: BTreeMap<String, String>,
    safe_directories: Vec<String>,
}

impl Step for Git {
    const NAME: &str = "git";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Settings;

    fn run(_: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
        let entries = entries(&settings)?;
        let count = entries.len();
        let written = include::include("gitconfig", write(&entries), container)?;
        let what = if written { "wrote" } else { "found" };
        Ok(format!("{what} {count} values"))
    }
}

fn entries(settings: &Settings) -> Result<Vec<Entry>, Failure> {
    let read = parse(&settings.config)
        .map_err(|line| Failure::new(format!("`config`, line {line}: not a git configuration")))?;
    let keys = settings
        .keys
        .clone()
        .unwrap_or_else(|| USUAL.iter().map(|&key| key.to_owned()).collect());
    let mut entries = filtered(read, &keys);
    for (name, value) in &settings.set {
        let entry = Entry::named(name, value)
            .ok_or_else(|| Failure::new(format!("`set`: `{name:.80}` is no name like `user.name`")))?;
        if entry.is_dangerous() {
            return Err(Failure::new(format!(
                "`set`: git runs, reads or sends something because of `{name:.80}`, so it is not set"
            )));
        }
        entries.push(entry);
    }
    for directory in &settings.safe_directories {
        if directory != "*" && !directory.starts_with('/') {
            return Err(Failure::new(format!(
                "`safe_directories`: `{directory:.80}` is not absolute"
            )));
        }
        entries.push(Entry {
            section: "safe".into(),
            subsection: None,
            key: "directory".into(),
            value: directory.clone(),
        });
    }
    Ok(entries)
}

clawker_plugin_sdk::export_step!(Git);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::TestContainer;

    use super::*;

    const OURS: &str = "~/.config/clawker/gitconfig";

    fn run(container: &mut TestContainer, settings: &str) -> Result<String, Failure> {
        let settings = serde_json::from_str(settings).expect("settings");
        Git::run(&Context::of("clawker.a"), settings, container)
    }

    fn text<'a>(container: &'a TestContainer, path: &str) -> &'a str {
        std::str::from_utf8(&container.files[path]).expect("text")
    }

    #[test]
    fn the_usual_keys_pass_and_the_settings_come_last() {
        let settings = r#"{"config":"[user]\nname = Ada\nsigningkey = x\n[core]\nsshCommand = evil\n",
            "set":{"user.email":"a@example.org"},"safe_directories":["/work"]}"#;
        let mut container = TestContainer::default();
        assert_eq!(run(&mut container, settings), Ok("wrote 3 values".into()));
        let expected = "[user]\n\tname = \"Ada\"\n\temail = \"a@example.org\"\n[safe]\n\tdirectory = \"/work\"\n";
        assert_eq!(text(&container, OURS), expected);
        assert_eq!(
            text(&container, "~/.gitconfig"),
            format!("[include]\n\tpath = {OURS}\n")
        );
        assert_eq!(run(&mut container, settings), Ok("found 3 values".into()));
        assert_eq!(
            text(&container, "~/.gitconfig"),
            format!("[include]\n\tpath = {OURS}\n")
        );
    }

    #[test]
    fn what_is_in_the_users_own_file_stays() {
        let mut container = TestContainer::default();
        container
            .files
            .insert("~/.gitconfig".into(), b"[user]\n\tname = Image".to_vec());
        run(&mut container, "{}").expect("runs");
        assert_eq!(
            text(&container, "~/.gitconfig"),
            format!("[user]\n\tname = Image\n[include]\n\tpath = {OURS}\n")
        );
    }

    #[test]
    fn keys_can_be_named() {
        let mut container = TestContainer::default();
        let settings = r#"{"config":"[user]\nname = Ada\nsigningkey = x\n","keys":["user.signingkey","core.*"]}"#;
        run(&mut container, settings).expect("runs");
        assert_eq!(text(&container, OURS), "[user]\n\tsigningkey = \"x\"\n");
    }

    #[test]
    fn settings_that_make_no_sense_are_named_and_nothing_is_written() {
        for (settings, says) in [
            (r#"{"config":"[user]\nname"}"#, ""),
            (r#"{"config":"name = Ada"}"#, "`config`, line 1"),
            (r#"{"set":{"core.sshCommand":"evil"}}"#, "`core.sshCommand`"),
            (r#"{"set":{"alias.st":"!evil"}}"#, "`alias.st`"),
            (r#"{"set":{"user":"x"}}"#, "`user` is no name"),
            (r#"{"safe_directories":["work"]}"#, "`work` is not absolute"),
        ] {
            let mut container = TestContainer::default();
            let outcome = run(&mut container, settings);
            if says.is_empty() {
                outcome.expect("a key alone is true");
                continue;
            }
            let why = outcome.expect_err(says);
            assert!(why.message.contains(says), "{why}");
            assert!(container.files.is_empty());
        }
    }
}
