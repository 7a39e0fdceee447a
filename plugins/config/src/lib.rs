//! Puts files where an agent's program looks for its configuration, and takes nothing away that is there already.
//!
//! ```text
//! if-missing: there? ─ no ─▶ written                 merge: there, not blank? ─ no ─▶ written
//! if-empty:   there, not blank? ─ no ─▶ written                └ yes ─▶ what it lacks is added ─▶ written if changed
//! ```
//! Needs nothing of the image, not even a shell.

mod merge;

use clawker_plugin_sdk::step::{Container, Context, EffectError, Failure, File, Step, WriteWhen};
use merge::{Prefer, merge};
use serde_json::{Map, Value};

/// Most bytes of a file that is read.
const MAX_FILE: u32 = 1 << 20;
/// Three effects each at most, and a step has 64.
const MAX_ENTRIES: usize = 20;

struct Config;

#[derive(Debug, Default, serde::Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Settings {
    files: Vec<Entry>,
}

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    path: String,
    content: Option<String>,
    from: Option<String>,
    json: Option<Map<String, Value>>,
    apply: Option<Apply>,
    mode: Option<String>,
    #[serde(default)]
    prefer: Prefer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Apply {
    IfMissing,
    IfEmpty,
    Merge,
}

impl Step for Config {
    const NAME: &str = "config";
    const VERSION: &str = env!("CARGO_PKG_VERSION");
    const SETTINGS_SCHEMA: &str = include_str!("settings.schema.json");
    type Settings = Settings;

    fn run(_: &Context, settings: Settings, container: &mut impl Container) -> Result<String, Failure> {
        if settings.files.len() > MAX_ENTRIES {
            let given = settings.files.len();
            return Err(Failure::new(format!("{given} files, the limit is {MAX_ENTRIES}")));
        }
        let (mut written, all) = (0, settings.files.len());
        for entry in settings.files {
            let path = entry.path.clone();
            let changed = entry
                .put(container)
                .map_err(|why| Failure::new(format!("{path}: {why}")))?;
            written += usize::from(changed);
        }
        Ok(format!("{written} of {all} files written"))
    }
}

impl Entry {
    /// Whether the file was written.
    fn put(self, container: &mut impl Container) -> Result<bool, Failure> {
        let apply = self.apply.unwrap_or(match &self.json {
            Some(_) => Apply::Merge,
            None => Apply::IfMissing,
        });
        let mode = self.mode(apply)?;
        let ours = self.ours(container)?;
        let file = |content: Vec<u8>| File::new(&self.path, content).mode(mode);
        if apply == Apply::IfMissing {
            return Ok(container.write_file(file(ours).when(WriteWhen::IfAbsent))?);
        }
        let there = match container.read_file(&self.path, MAX_FILE) {
            Ok(there) => there,
            Err(error) if error.code == "not_found" => Vec::new(),
            // Whatever else is in it, it isn't empty.
            Err(error) if error.code == "too_large" && apply == Apply::IfEmpty => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if there.iter().all(u8::is_ascii_whitespace) {
            return Ok(container.write_file(file(ours))?);
        }
        if apply == Apply::IfEmpty {
            return Ok(false);
        }
        let before = object("the file", &there)?;
        let after = merge(before.clone(), object("the settings' content", &ours)?, self.prefer);
        if after == before {
            return Ok(false);
        }
        Ok(container.write_file(file(pretty(&after)))?)
    }

    fn ours(&self, container: &mut impl Container) -> Result<Vec<u8>, Failure> {
        match (&self.content, &self.from, &self.json) {
            (Some(content), None, None) => Ok(content.clone().into_bytes()),
            (None, Some(from), None) => container
                .read_file(from, MAX_FILE)
                .map_err(|EffectError { code, message }| Failure::new(format!("{from}: {message} ({code})"))),
            (None, None, Some(json)) => Ok(pretty(json)),
            _ => Err(Failure::new("give one of `content`, `from` and `json`")),
        }
    }

    /// A file that others read may hold what they may not see once something is merged into it.
    fn mode(&self, apply: Apply) -> Result<u32, Failure> {
        let Some(mode) = &self.mode else {
            return Ok(if apply == Apply::Merge { 0o600 } else { 0o644 });
        };
        u32::from_str_radix(mode, 8)
            .ok()
            .filter(|mode| *mode <= 0o777)
            .ok_or_else(|| Failure::new(format!("mode `{mode}` is not octal, like 0600")))
    }
}

fn object(what: &str, bytes: &[u8]) -> Result<Map<String, Value>, Failure> {
    serde_json::from_slice(bytes).map_err(|error| Failure::new(format!("{what} is no JSON object: {error}")))
}

fn pretty(object: &Map<String, Value>) -> Vec<u8> {
    // A map of JSON values can always be written.
    let mut bytes = serde_json::to_vec_pretty(object).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

clawker_plugin_sdk::export_step!(Config);

#[cfg(test)]
mod tests;
