//! Lets ssh of the image's user know hosts: `~/.ssh` for the user alone, and the lines of the settings in its
//! `known_hosts`, each once. What is in the file stays, in its place.

use clawker_plugin_sdk::step::{Container, Context, Failure, File, Step, WriteWhen};

const FOLDER: &str = "~/.ssh";
const FILE: &str = "~/.ssh/known_hosts";
const MAX_FILE: u32 = 1 << 20;

struct Ssh;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    known_hosts: Vec<String>,
}

impl Step for Ssh {
    const NAME: &str = "ssh";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Settings;

    fn run(_: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
        if let Some(bad) = settings.known_hosts.iter().find(|line| !is_entry(line)) {
            let shown: String = bad.chars().take(80).collect();
            return Err(Failure::new(format!(
                "`{shown}` is no line of known_hosts: hosts, type of key, key, as `ssh-keyscan` prints it"
            )));
        }
        container.write_file(File::folder(FOLDER, 0o700).when(WriteWhen::IfChanged))?;
        let there = match container.read_file(FILE, MAX_FILE) {
            Ok(there) => there,
            Err(error) if error.code == "not_found" => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let (after, added) = with(there, &settings.known_hosts);
        if added > 0 {
            container.write_file(File::new(FILE, after).mode(0o600))?;
        }
        Ok(format!("{added} of {} hosts added", settings.known_hosts.len()))
    }
}

/// `[marker] hosts type key [comment]`, as sshd(8) has it.
fn is_entry(line: &str) -> bool {
    let mut words: Vec<&str> = line.split_ascii_whitespace().collect();
    if words.first().is_some_and(|word| word.starts_with('@')) {
        words.remove(0);
    }
    let base64 = |key: &str| key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+/=".contains(&b));
    !line.contains(char::is_control)
        && words.len() >= 3
        && !words[0].starts_with('#')
        && words[1]
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-@.".contains(&b))
        && base64(words[2])
}

/// The file with the lines that it lacks, and how many those are.
fn with(mut file: Vec<u8>, lines: &[String]) -> (Vec<u8>, usize) {
    let mut added = 0;
    for line in lines.iter().map(|line| line.trim()) {
        let known = file
            .split(|byte| *byte == b'\n')
            .any(|there| there.trim_ascii() == line.as_bytes());
        if known {
            continue;
        }
        // A line that nobody ended would swallow ours.
        if !file.is_empty() && !file.ends_with(b"\n") {
            file.push(b'\n');
        }
        file.extend_from_slice(line.as_bytes());
        file.push(b'\n');
        added += 1;
    }
    (file, added)
}

clawker_plugin_sdk::export_step!(Ssh);

#[cfg(test)]
mod tests {
    use clawker_plugin_sdk::step::TestContainer;

    use super::*;

    const A: &str = "git.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKey+/=";
    const B: &str = "@cert-authority *.example.org ecdsa-sha2-nistp256 AAAA comment";

    fn run(container: &mut TestContainer, lines: &[&str]) -> Result<String, Failure> {
        let known_hosts = lines.iter().map(|&line| line.to_owned()).collect();
        Ssh::run(&Context::of("clawker.a"), Settings { known_hosts }, container)
    }

    #[test]
    fn hosts_are_added_once_and_the_folder_is_the_users_alone() {
        let mut container = TestContainer::default();
        assert_eq!(run(&mut container, &[A, B]), Ok("2 of 2 hosts added".into()));
        assert_eq!(container.files[FILE], format!("{A}\n{B}\n").into_bytes());
        assert_eq!((container.modes["~/.ssh/"], container.modes[FILE]), (0o700, 0o600));
        assert_eq!(run(&mut container, &[A, B]), Ok("0 of 2 hosts added".into()));
        assert_eq!(container.files[FILE], format!("{A}\n{B}\n").into_bytes());
    }

    #[test]
    fn what_is_there_stays_in_its_place() {
        let mut container = TestContainer::default();
        container
            .files
            .insert(FILE.into(), format!("# mine\n{B}  \nother ssh-rsa AAAA").into_bytes());
        run(&mut container, &[A, B]).expect("runs");
        assert_eq!(
            container.files[FILE],
            format!("# mine\n{B}  \nother ssh-rsa AAAA\n{A}\n").into_bytes()
        );
    }

    #[test]
    fn what_is_no_line_is_named_and_nothing_is_written() {
        for bad in [
            "",
            "host",
            "host ssh-rsa",
            "# host ssh-rsa AAAA",
            "host ssh-rsa AA$A",
            "a b AA\nc d AA",
        ] {
            let mut container = TestContainer::default();
            let why = run(&mut container, &[A, bad]).expect_err(bad);
            assert!(why.message.contains("is no line of known_hosts"), "{why}");
            assert!(container.files.is_empty());
        }
    }
}
