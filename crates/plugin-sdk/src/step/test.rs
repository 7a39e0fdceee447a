//! A container that exists in memory, for the tests of steps.

use std::collections::BTreeMap;

use super::{Command, Container, EffectError, File, Output, WriteWhen};

/// Files in memory, and commands that end as the test says: with code 0 and no output, unless told otherwise.
#[derive(Debug, Default)]
pub struct TestContainer {
    /// By absolute path.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Every command so far.
    pub commands: Vec<Command>,
    /// How the next commands end, first one first.
    pub outputs: Vec<Output>,
    /// If set, every effect fails with it.
    pub broken: Option<EffectError>,
}

impl TestContainer {
    fn works(&self) -> Result<(), EffectError> {
        self.broken.clone().map_or(Ok(()), Err)
    }
}

impl Container for TestContainer {
    fn exec(&mut self, command: Command) -> Result<Output, EffectError> {
        self.works()?;
        self.commands.push(command);
        Ok(if self.outputs.is_empty() {
            Output::default()
        } else {
            self.outputs.remove(0)
        })
    }

    fn write_file(&mut self, file: File) -> Result<bool, EffectError> {
        self.works()?;
        let there = self.files.get(&file.path);
        let write = match file.when {
            WriteWhen::Always => true,
            WriteWhen::IfAbsent => there.is_none(),
            WriteWhen::IfChanged => there != Some(&file.content),
        };
        if write {
            self.files.insert(file.path, file.content);
        }
        Ok(write)
    }

    fn read_file(&mut self, path: &str, max: u32) -> Result<Vec<u8>, EffectError> {
        self.works()?;
        let found = self.files.get(path).ok_or_else(|| EffectError {
            code: "not-found".into(),
            message: format!("there is no `{path}`"),
        })?;
        Ok(found.iter().copied().take(max as usize).collect())
    }
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
        assert_eq!(write(WriteWhen::Always, "b"), Ok(true));
        assert_eq!(container.read_file("/x", 1), Ok(b"b".to_vec()));
        assert_eq!(container.read_file("/y", 1).expect_err("absent").code, "not-found");
    }
}
