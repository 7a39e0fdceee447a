//! A container that exists in memory, for the tests of steps.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Command, Container, Context, EffectError, Failure, File, Form, Output, Piece, Secret, Step, WriteWhen};

/// A container for tests: files in memory, and commands that end as the test says: with code 0 and no output, unless told otherwise.
#[derive(Debug, Default)]
pub struct TestContainer {
    /// By path as the step wrote it, with secrets put in; folders have a `/` at their end.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Permission bits of what was written.
    pub modes: BTreeMap<String, u32>,
    /// Every command so far.
    pub commands: Vec<Command>,
    /// What each command got on its standard input.
    pub stdins: Vec<Vec<u8>>,
    /// How the next commands end, first one first.
    pub outputs: Vec<Output>,
    /// If set, every effect fails with it.
    pub broken: Option<EffectError>,
    /// Contents of the secrets that the step may use.
    pub secrets: BTreeMap<String, String>,
    /// What stands behind each [`Secret`] so far.
    pub taken: Vec<Vec<u8>>,
}

impl TestContainer {
    /// Runs a step as the sandbox does, with its settings read from JSON. Reading them may fail, as the step may.
    ///
    /// ```
    /// use clawker_plugin_sdk::step::{Command, Container, Context, Failure, Output, TestContainer};
    /// use clawker_plugin_sdk::{Settings, step};
    /// use serde_json::json;
    ///
    /// #[derive(Settings)]
    /// struct Settings {
    ///     /// The branch to be on.
    ///     #[settings(default = "main")]
    ///     branch: String,
    /// }
    ///
    /// #[step]
    /// fn switch(settings: &Settings, container: &mut impl Container) -> Result<String, Failure> {
    ///     container.exec(Command::new(["git", "switch", &settings.branch]))?.success()?;
    ///     Ok(format!("on {}", settings.branch))
    /// }
    ///
    /// let mut container = TestContainer::default();
    /// let said = container.run::<switch>(&Context::of("clawker.a"), json!({"branch": "next"}));
    /// assert_eq!(said, Ok("on next".into()));
    /// assert_eq!(container.commands[0].argv, ["git", "switch", "next"]);
    ///
    /// container.outputs = vec![Output { code: 128, ..Output::default() }];
    /// assert!(container.run::<switch>(&Context::of("clawker.a"), json!({})).is_err());
    /// ```
    pub fn run<S: Step>(&mut self, context: &Context, settings: Value) -> Result<String, Failure> {
        super::run::<S>(context, &settings.to_string(), self)
    }

    fn works(&self) -> Result<(), EffectError> {
        self.broken.clone().map_or(Ok(()), Err)
    }

    fn filled(&self, pieces: &[Piece]) -> Vec<u8> {
        let piece = |piece: &Piece| match piece {
            Piece::Bytes(bytes) => bytes.clone(),
            Piece::Secret(Secret(number)) => self.taken[*number as usize].clone(),
        };
        pieces.iter().flat_map(piece).collect()
    }
}

impl Container for TestContainer {
    fn exec(&mut self, command: Command) -> Result<Output, EffectError> {
        self.works()?;
        self.stdins.push(self.filled(&command.stdin));
        self.commands.push(command);
        Ok(if self.outputs.is_empty() {
            Output::default()
        } else {
            self.outputs.remove(0)
        })
    }

    fn write_file(&mut self, file: File) -> Result<bool, EffectError> {
        self.works()?;
        let content = self.filled(&file.content);
        let there = self.files.get(&file.path);
        let same = there == Some(&content) && self.modes.get(&file.path).is_none_or(|mode| *mode == file.mode);
        let write = match file.when {
            WriteWhen::Always => true,
            WriteWhen::IfAbsent => there.is_none(),
            WriteWhen::IfChanged => !same,
        };
        if write {
            self.modes.insert(file.path.clone(), file.mode);
            self.files.insert(file.path, content);
        }
        Ok(write)
    }

    fn read_file_of(&mut self, path: &str, max: u32, _user: Option<&str>) -> Result<Vec<u8>, EffectError> {
        self.works()?;
        let found = self.files.get(path).ok_or_else(|| EffectError {
            code: "not_found".into(),
            message: format!("there is no `{path}`"),
        })?;
        if found.len() > max as usize {
            return Err(EffectError {
                code: "too_large".into(),
                message: format!("{path}: {} bytes, the limit is {max}", found.len()),
            });
        }
        Ok(found.clone())
    }

    /// Panics for one that isn't in [`TestContainer::secrets`], where the real one ends the step.
    fn secret(&mut self, name: &str, form: Form) -> Secret {
        let content = self.secrets.get(name).map(|secret| secret.trim_end_matches('\n'));
        let Some(content) = content else {
            panic!("secret `{name}` isn't granted")
        };
        self.taken.push(match form {
            Form::Plain => content.as_bytes().to_vec(),
            Form::Percent => percent(content.as_bytes()),
        });
        Secret((self.taken.len() - 1) as u32)
    }
}

fn percent(bytes: &[u8]) -> Vec<u8> {
    let encoded = |byte: &u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => vec![*byte],
        _ => format!("%{byte:02X}").into_bytes(),
    };
    bytes.iter().flat_map(encoded).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_written_when_asked() {
        let mut container = TestContainer::default();
        let mut write = |when, content: &str| container.write_file(File::new("/x", content).when(when));
        assert_eq!(write(WriteWhen::IfAbsent, "a"), Ok(true));
        assert_eq!(write(WriteWhen::IfAbsent, "b"), Ok(false));
        assert_eq!(write(WriteWhen::IfChanged, "a"), Ok(false));
        assert_eq!(write(WriteWhen::IfChanged, "b"), Ok(true));
        assert_eq!(write(WriteWhen::Always, "bc"), Ok(true));
        assert_eq!(container.read_file("/x", 2), Ok(b"bc".to_vec()));
        assert_eq!(container.read_file("/x", 1).expect_err("large").code, "too_large");
        assert_eq!(container.read_file("/y", 1).expect_err("absent").code, "not_found");
    }

    #[test]
    fn secrets_are_put_in_where_they_are_named() {
        let mut container = TestContainer::default();
        container.secrets.insert("S".into(), "a b/c\n".into());
        let (plain, percent) = (container.secret("S", Form::Plain), container.secret("S", Form::Percent));
        let content = vec!["<".into(), plain.into(), "|".into(), percent.into(), ">".into()];
        assert_eq!(container.write_file(File::of("/x", content)), Ok(true));
        assert_eq!(container.files["/x"], b"<a b/c|a%20b%2Fc>");
        container.exec(Command::new(["cat"]).stdin(plain)).expect("runs");
        assert_eq!(container.stdins, [b"a b/c"]);
    }
}
