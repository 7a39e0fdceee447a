//! A step's effects: capped, compared with the recorded ones, answered from them or handed to the caller.

use clawker_model::plan::WriteWhen;
use clawker_model::{Effect, EffectResult, Piece, SecretForm};
use wasmtime::{Result, bail};

use crate::bindings::step::clawker::plugin::step_types::{self, EffectError};
use crate::bindings::step::clawker::plugin::{exec, read_file, secrets, write_file};
use crate::limits::{
    MAX_ARGS, MAX_ARGS_BYTES, MAX_EFFECT_SECONDS, MAX_EFFECTS, MAX_FILE, MAX_PATH, MAX_PIECES, MAX_TAKEN,
};
use crate::note::note;
use crate::state::{CallState, Ended, Replay};

impl CallState {
    /// Answers the next effect from the record. Without a record the call ends here, by an error that no guest can
    /// catch; `Replay::ended` says why.
    fn effect(&mut self, asked: Effect) -> Result<EffectResult> {
        let Some(replay) = &mut self.replay else {
            bail!("effects are for `run` alone")
        };
        let n = replay.asked;
        replay.ended = Some(match (check(&asked), replay.history.get(n)) {
            (Err(problem), _) => Ended::Bad(format!("effect {n}: {problem}")),
            (Ok(()), _) if n >= MAX_EFFECTS => Ended::Bad(format!("more than {MAX_EFFECTS} effects")),
            (Ok(()), None) => Ended::Effect(asked),
            (Ok(()), Some((recorded, result))) if *recorded == note(&asked) => {
                replay.asked += 1;
                return Ok(result.clone());
            }
            (Ok(()), Some((recorded, _))) => Ended::Differs {
                n,
                recorded: recorded.what.clone(),
                asked: note(&asked).what,
            },
        });
        bail!("the host ended the call")
    }
}

impl Replay {
    /// The answer is of another kind than the question: the record is damaged.
    fn damaged<T>(&mut self, result: EffectResult) -> Result<std::result::Result<T, EffectError>> {
        if let EffectResult::Failed { code, message } = result {
            return Ok(Err(EffectError { code, message }));
        }
        let n = self.asked.saturating_sub(1);
        let recorded = "a result of another kind".to_owned();
        let asked = self
            .history
            .get(n)
            .map(|(note, _)| note.what.clone())
            .unwrap_or_default();
        self.ended = Some(Ended::Differs { n, recorded, asked });
        bail!("the host ended the call")
    }
}

impl CallState {
    /// Numbers become names.
    fn pieces(&self, pieces: Vec<step_types::Piece>) -> Result<Vec<Piece>> {
        let taken = self.replay.as_ref().map_or(&[][..], |replay| &replay.taken);
        let piece = |piece| match piece {
            step_types::Piece::Bytes(bytes) => Ok(Piece::Bytes { bytes }),
            step_types::Piece::Secret(number) => match taken.get(number as usize) {
                Some((name, form)) => Ok(Piece::Secret {
                    name: name.clone(),
                    form: *form,
                }),
                None => bail!("secret number {number} was never taken"),
            },
        };
        pieces.into_iter().map(piece).collect()
    }

    fn failed<T>(&mut self, result: EffectResult) -> Result<std::result::Result<T, EffectError>> {
        match &mut self.replay {
            Some(replay) => replay.damaged(result),
            None => bail!("effects are for `run` alone"),
        }
    }
}

impl exec::Host for CallState {
    fn run(&mut self, command: exec::Command) -> Result<std::result::Result<exec::Output, EffectError>> {
        let exec::Command {
            argv,
            env,
            cwd,
            user,
            timeout,
            stdin,
        } = command;
        let stdin = self.pieces(stdin)?;
        match self.effect(Effect::Exec {
            argv,
            env,
            cwd,
            user,
            timeout_s: timeout,
            stdin,
        })? {
            EffectResult::Exec { code, stdout, stderr } => Ok(Ok(exec::Output { code, stdout, stderr })),
            other => self.failed(other),
        }
    }
}

impl write_file::Host for CallState {
    fn write(&mut self, file: write_file::File) -> Result<std::result::Result<bool, EffectError>> {
        let write_file::File {
            path,
            mode,
            owner,
            when,
            content,
        } = file;
        let when = match when {
            write_file::When::Always => WriteWhen::Always,
            write_file::When::IfAbsent => WriteWhen::IfAbsent,
            write_file::When::IfChanged => WriteWhen::IfChanged,
        };
        let content = self.pieces(content)?;
        match self.effect(Effect::WriteFile {
            path,
            mode,
            owner,
            when,
            content,
        })? {
            EffectResult::WriteFile { written } => Ok(Ok(written)),
            other => self.failed(other),
        }
    }
}

impl read_file::Host for CallState {
    fn read(
        &mut self,
        path: String,
        max: u32,
        user: Option<String>,
    ) -> Result<std::result::Result<Vec<u8>, EffectError>> {
        match self.effect(Effect::ReadFile { path, max, user })? {
            EffectResult::ReadFile { content } => Ok(Ok(content)),
            other => self.failed(other),
        }
    }
}

impl secrets::Host for CallState {
    fn take(&mut self, name: String, form: secrets::Form) -> Result<u32> {
        let Some(replay) = &mut self.replay else {
            bail!("secrets are for `run` alone")
        };
        if !replay.secrets.contains(&name) {
            replay.ended = Some(Ended::Denied(format!("secret `{name:.80}`")));
            bail!("the host ended the call")
        }
        if replay.taken.len() >= MAX_TAKEN {
            replay.ended = Some(Ended::Bad(format!("more than {MAX_TAKEN} secrets taken")));
            bail!("the host ended the call")
        }
        let form = match form {
            secrets::Form::Plain => SecretForm::Plain,
            secrets::Form::Percent => SecretForm::Percent,
        };
        replay.taken.push((name, form));
        Ok((replay.taken.len() - 1) as u32)
    }
}

/// An effect that a worker handed on: within the same bounds, and with no secret but the step's own.
pub(crate) fn check_answer(effect: &Effect, granted: &[String]) -> std::result::Result<(), String> {
    check(effect)?;
    match effect.foreign_secret(granted) {
        Some(name) => Err(format!("secret `{name:.80}` isn't the step's")),
        None => Ok(()),
    }
}

fn check(effect: &Effect) -> std::result::Result<(), String> {
    match effect {
        Effect::Exec {
            argv,
            env,
            cwd,
            user,
            timeout_s,
            stdin,
        } => {
            pieces("stdin", stdin)?;
            list("argv", argv)?;
            list("env", env)?;
            if argv.is_empty() {
                return Err("argv is empty".into());
            }
            if let Some(bad) = env.iter().find(|entry| entry.find('=').is_none_or(|at| at == 0)) {
                return Err(format!("env entry `{bad:.80}` is not `NAME=value`"));
            }
            if let Some(cwd) = cwd {
                absolute("cwd", cwd)?;
            }
            text("user", user.as_deref().unwrap_or_default())?;
            if !(1..=MAX_EFFECT_SECONDS).contains(timeout_s) {
                return Err(format!(
                    "timeout of {timeout_s} s, allowed are 1 to {MAX_EFFECT_SECONDS}"
                ));
            }
        }
        Effect::WriteFile {
            path: file,
            mode,
            owner,
            content,
            when: _,
        } => {
            path("path", file)?;
            text("owner", owner.as_deref().unwrap_or_default())?;
            if *mode > 0o777 {
                return Err(format!("mode {mode:#o}, the highest is 0o777"));
            }
            if file.ends_with('/') && !content.is_empty() {
                return Err(format!("`{file:.80}` is a folder and has no content"));
            }
            pieces("content", content)?;
        }
        Effect::ReadFile { path: file, max, user } => {
            path("path", file)?;
            text("user", user.as_deref().unwrap_or_default())?;
            if *max as usize > MAX_FILE {
                return Err(format!("max is {max} bytes, the limit is {MAX_FILE}"));
            }
        }
    }
    Ok(())
}

fn list(what: &str, entries: &[String]) -> std::result::Result<(), String> {
    let bytes: usize = entries.iter().map(String::len).sum();
    if entries.len() > MAX_ARGS || bytes > MAX_ARGS_BYTES {
        let (len, args, limit) = (entries.len(), MAX_ARGS, MAX_ARGS_BYTES);
        return Err(format!(
            "{what} has {len} entries of {bytes} bytes, the limit is {args} of {limit}"
        ));
    }
    entries.iter().try_for_each(|entry| no_nul(what, entry))
}

/// Without the secrets, whose size is the control plane's to check.
fn pieces(what: &str, pieces: &[Piece]) -> std::result::Result<(), String> {
    let len = |piece: &Piece| match piece {
        Piece::Bytes { bytes } => bytes.len(),
        Piece::Secret { .. } => 0,
    };
    let bytes: usize = pieces.iter().map(len).sum();
    if pieces.len() > MAX_PIECES {
        return Err(format!("{what} has {} pieces, the limit is {MAX_PIECES}", pieces.len()));
    }
    if bytes > MAX_FILE {
        return Err(format!("{what} has {bytes} bytes, the limit is {MAX_FILE}"));
    }
    Ok(())
}

/// Absolute, or in a home folder.
fn path(what: &str, path: &str) -> std::result::Result<(), String> {
    match path.strip_prefix("~/") {
        Some(rest) if !rest.is_empty() => text(what, path),
        _ => absolute(what, path),
    }
}

fn absolute(what: &str, path: &str) -> std::result::Result<(), String> {
    if !path.starts_with('/') {
        return Err(format!("{what} `{path:.80}` is not absolute"));
    }
    text(what, path)
}

fn text(what: &str, text: &str) -> std::result::Result<(), String> {
    if text.len() > MAX_PATH {
        return Err(format!("{what} has {} bytes, the limit is {MAX_PATH}", text.len()));
    }
    no_nul(what, text)
}

fn no_nul(what: &str, text: &str) -> std::result::Result<(), String> {
    if text.contains('\0') {
        Err(format!("{what} holds a NUL byte"))
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(argv: &[&str]) -> Effect {
        let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
        Effect::Exec {
            argv,
            env: vec![],
            cwd: None,
            user: None,
            timeout_s: 1,
            stdin: vec![],
        }
    }

    fn write(path: &str, mode: u32, len: usize) -> Effect {
        Effect::WriteFile {
            path: path.into(),
            mode,
            owner: None,
            when: WriteWhen::Always,
            content: vec![Piece::bytes(vec![0; len])],
        }
    }

    #[test]
    fn effects_out_of_bounds_are_named() {
        let read = |path: &str, max| Effect::ReadFile {
            path: path.into(),
            max,
            user: None,
        };
        let many = Effect::WriteFile {
            path: "/x".into(),
            mode: 0o644,
            owner: None,
            when: WriteWhen::Always,
            content: vec![Piece::bytes(""); MAX_PIECES + 1],
        };
        let long = "x".repeat(MAX_ARGS_BYTES);
        for (effect, says) in [
            (exec(&[]), "argv is empty"),
            (exec(&["x"; MAX_ARGS + 1]), "argv has 257 entries"),
            (exec(&["x", &long]), "argv has 2 entries"),
            (exec(&["a\0b"]), "argv holds a NUL"),
            (write("etc/x", 0o644, 0), "path `etc/x` is not absolute"),
            (
                write(&format!("/{}", "x".repeat(MAX_PATH)), 0o644, 0),
                "path has 4097 bytes",
            ),
            (write("~", 0o644, 0), "path `~` is not absolute"),
            (write("~/", 0o644, 0), "path `~/` is not absolute"),
            (write("~x/y", 0o644, 0), "path `~x/y` is not absolute"),
            (write("/x/", 0o755, 1), "`/x/` is a folder"),
            (many, "content has 257 pieces"),
            (write("/x", 0o1000, 0), "mode 0o1000"),
            (write("/x", 0o644, MAX_FILE + 1), "content has 1048577 bytes"),
            (read("/x", MAX_FILE as u32 + 1), "max is 1048577 bytes"),
        ] {
            let problem = check(&effect).expect_err(says);
            assert!(problem.starts_with(says), "{problem}");
        }
        for effect in [
            exec(&["x"; MAX_ARGS]),
            write("/x", 0o777, MAX_FILE),
            write("~/.x", 0o600, 1),
            read("/x", MAX_FILE as u32),
        ] {
            assert_eq!(check(&effect), Ok(()));
        }
    }

    #[test]
    fn env_and_timeout_are_checked() {
        let with = |entry: &str, timeout_s| Effect::Exec {
            argv: vec!["x".into()],
            env: vec![entry.into()],
            cwd: None,
            user: None,
            timeout_s,
            stdin: vec![],
        };
        assert_eq!(check(&with("A=b", 600)), Ok(()));
        for (entry, timeout) in [("A", 1), ("=b", 1), ("A=b", 0), ("A=b", 601)] {
            assert!(check(&with(entry, timeout)).is_err(), "{entry} {timeout}");
        }
    }
}
