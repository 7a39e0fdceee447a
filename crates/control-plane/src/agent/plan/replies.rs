//! What effects answered, for as long as their step is under way.
//!
//! A step that resumes needs the answers so far, and they may hold what is the agent's own business: the content of
//! files, the output of commands. So the journal has a note of each, and the answer itself stands in a file of root's
//! beside the container's secrets, until the step has ended or the container is gone.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use clawker_model::{EffectNote, EffectResult};
use clawker_plugin_host::note_result;

/// The answers to one step's effects.
#[derive(Debug, Clone)]
pub struct Replies {
    dir: PathBuf,
}

impl Replies {
    /// Below `secrets`, the folder of the container's secrets; no secret's name begins with a dot.
    pub fn new(secrets: &Path, key: &str) -> Self {
        Self {
            dir: secrets.join(".plan").join(clawker_identity::thumbprint(key.as_bytes())),
        }
    }

    /// Keeps the `n`th answer; durable when this returns.
    pub async fn keep(&self, n: u32, result: &EffectResult) -> io::Result<()> {
        if matches!(result, EffectResult::WriteFile { .. }) {
            return Ok(());
        }
        let (dir, json) = (self.dir.clone(), serde_json::to_vec(result)?);
        blocking(move || write(&dir, n, &json)).await
    }

    /// The `n`th answer, if it is the one that was noted.
    pub async fn get(&self, n: u32, note: &EffectNote) -> Option<EffectResult> {
        for written in [true, false] {
            let result = EffectResult::WriteFile { written };
            if note_result(&result) == *note {
                return Some(result);
            }
        }
        let json = tokio::fs::read(self.dir.join(n.to_string())).await.ok()?;
        let result = serde_json::from_slice(&json).ok()?;
        (note_result(&result) == *note).then_some(result)
    }

    /// The step has ended.
    pub async fn forget(&self) {
        if let Err(error) = tokio::fs::remove_dir_all(&self.dir).await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(dir = %self.dir.display(), %error, "answers of a step that ended are left");
        }
    }
}

fn write(dir: &Path, n: u32, json: &[u8]) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(dir.join(n.to_string()))?;
    file.write_all(json)?;
    file.sync_all()
}

async fn blocking(work: impl FnOnce() -> io::Result<()> + Send + 'static) -> io::Result<()> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn answers_are_roots_files_until_the_step_ends() {
        let secrets = tempfile::tempdir().expect("folder");
        let replies = Replies::new(secrets.path(), "k");
        let read = EffectResult::ReadFile {
            content: b"private".to_vec(),
        };
        replies.keep(3, &read).await.expect("kept");
        let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(&replies.dir), mode(&replies.dir.join("3"))), (0o700, 0o600));
        assert_eq!(replies.get(3, &note_result(&read)).await, Some(read.clone()));
        let other = EffectResult::ReadFile { content: vec![] };
        assert_eq!(
            replies.get(3, &note_result(&other)).await,
            None,
            "not the one that was noted"
        );
        assert_eq!(
            Replies::new(secrets.path(), "l").get(3, &note_result(&read)).await,
            None
        );

        // Whether a file was written is in its note already.
        let written = EffectResult::WriteFile { written: true };
        replies.keep(4, &written).await.expect("kept");
        assert!(!replies.dir.join("4").exists());
        assert_eq!(replies.get(4, &note_result(&written)).await, Some(written));

        replies.forget().await;
        replies.forget().await;
        assert_eq!(replies.get(3, &note_result(&read)).await, None);
    }
}
