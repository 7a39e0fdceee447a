//! What the journal keeps of effects and their results: enough to tell one from another, nothing of what is in them.

use clawker_model::plan::EXEC;
use clawker_model::{Effect, EffectNote, EffectResult};
use serde::Serialize;

/// What the journal keeps of an effect. Secrets are in it by name alone.
pub fn note(effect: &Effect) -> EffectNote {
    let what = match effect {
        Effect::Exec { argv, .. } => {
            let program = argv.first().map(String::as_str).unwrap_or_default();
            format!("{EXEC}`{program:.80}` with {} arguments", argv.len().saturating_sub(1))
        }
        Effect::WriteFile { path, .. } => format!("write-file `{path:.80}`"),
        Effect::ReadFile { path, max, .. } => format!("read-file `{path:.80}`, at most {max} bytes"),
    };
    EffectNote {
        what,
        digest: mark(effect),
    }
}

/// What the journal keeps of an effect's result.
pub fn note_result(result: &EffectResult) -> EffectNote {
    let what = match result {
        EffectResult::Exec { code, stdout, stderr } => {
            format!(
                "exit code {code}, {} and {} bytes of output",
                stdout.len(),
                stderr.len()
            )
        }
        EffectResult::WriteFile { written: true } => "written".into(),
        EffectResult::WriteFile { written: false } => "left as it was".into(),
        EffectResult::ReadFile { content } => format!("{} bytes", content.len()),
        EffectResult::Failed { code, .. } => format!("failed: {code:.80}"),
    };
    EffectNote {
        what,
        digest: mark(result),
    }
}

fn mark(value: &impl Serialize) -> String {
    let json = serde_json::to_vec(value).unwrap_or_default();
    crate::digest(&json).as_str().to_owned()
}

#[cfg(test)]
mod tests {
    use clawker_model::plan::WriteWhen;
    use clawker_model::{Piece, SecretForm};

    use super::*;

    fn exec(argv: &[&str]) -> Effect {
        Effect::Exec {
            argv: argv.iter().map(|&arg| arg.to_owned()).collect(),
            env: vec![],
            cwd: None,
            user: None,
            timeout_s: 1,
            stdin: vec![],
        }
    }

    #[test]
    fn notes_tell_contents_apart_and_hold_none() {
        let write = |text: &str, mode| Effect::WriteFile {
            path: "/x".into(),
            mode,
            owner: None,
            when: WriteWhen::Always,
            content: vec![
                Piece::bytes(text),
                Piece::Secret {
                    name: "TOKEN".into(),
                    form: SecretForm::Plain,
                },
            ],
        };
        let first = note(&write("hunter2", 0o644));
        assert_eq!((first.what.as_str(), first.digest.len()), ("write-file `/x`", 64));
        assert_eq!(first, note(&write("hunter2", 0o644)));
        assert_ne!(first, note(&write("hunter2", 0o600)));
        assert_ne!(first, note(&write("hunter3", 0o644)));
        assert_ne!(note(&exec(&["sh", "-c", "a"])), note(&exec(&["sh", "-c", "b"])));
        let read = |content: &[u8]| {
            note_result(&EffectResult::ReadFile {
                content: content.to_vec(),
            })
        };
        assert_eq!(read(b"hunter2").what, "7 bytes");
        assert_ne!(read(b"hunter2"), read(b"hunter3"));
    }
}
