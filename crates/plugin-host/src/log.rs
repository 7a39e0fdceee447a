//! Lines that a guest writes, capped and handed to `tracing`; and its settings, handed to it.

use wasmtime::Result;

use crate::bindings::policy::clawker::plugin::{log, settings, types};
use crate::limits::{MAX_LOG_LINE, MAX_LOG_LINES, cut};
use crate::state::CallState;

/// A line that a guest wrote, within bounds and on one line.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct Line {
    level: Level,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// What one call wrote so far.
#[derive(Default)]
pub(crate) struct Log {
    lines: Vec<Line>,
    dropped: u32,
    /// The last line of level `error`: what a trap is explained with.
    pub last_error: Option<String>,
}

impl Log {
    fn write(&mut self, level: Level, line: String) {
        let text = clean(line);
        if level == Level::Error {
            self.last_error = Some(text.clone());
        }
        if self.lines.len() < MAX_LOG_LINES {
            self.lines.push(Line { level, text });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// The lines, and one about those that were too many.
    pub fn take(&mut self) -> Vec<Line> {
        let mut lines = std::mem::take(&mut self.lines);
        if self.dropped > 0 {
            lines.push(Line {
                level: Level::Warn,
                text: format!("{} more lines were over the limit of {MAX_LOG_LINES}", self.dropped),
            });
        }
        lines
    }
}

/// Hands a call's lines to `tracing`. They may come out of a worker, so they are put within bounds again.
pub(crate) fn tell(plugin: &str, lines: Vec<Line>) {
    for line in lines.into_iter().take(MAX_LOG_LINES + 1) {
        let text = clean(line.text);
        match line.level {
            Level::Debug => tracing::debug!(target: "clawker::plugin", plugin, "{text}"),
            Level::Info => tracing::info!(target: "clawker::plugin", plugin, "{text}"),
            Level::Warn => tracing::warn!(target: "clawker::plugin", plugin, "{text}"),
            Level::Error => tracing::error!(target: "clawker::plugin", plugin, "{text}"),
        }
    }
}

fn clean(line: String) -> String {
    cut(line, MAX_LOG_LINE)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

impl log::Host for CallState {
    fn write(&mut self, level: log::Level, line: String) -> Result<()> {
        let level = match level {
            log::Level::Debug => Level::Debug,
            log::Level::Info => Level::Info,
            log::Level::Warn => Level::Warn,
            log::Level::Error => Level::Error,
        };
        self.count_host_call()?;
        self.log.write(level, line);
        Ok(())
    }
}

impl settings::Host for CallState {
    fn get(&mut self) -> Result<String> {
        self.count_host_call()?;
        Ok(self.settings.clone())
    }
}

impl types::Host for CallState {}
impl crate::bindings::policy::clawker::plugin::policy_types::Host for CallState {}
impl crate::bindings::step::clawker::plugin::step_types::Host for CallState {}
