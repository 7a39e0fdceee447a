//! Lines that a guest writes, capped and handed to `tracing`; and its settings, handed to it.

use wasmtime::Result;

use crate::bindings::policy::clawker::plugin::{log, settings, types};
use crate::limits::{MAX_LOG_LINE, MAX_LOG_LINES, cut};
use crate::state::CallState;

pub(crate) struct Log {
    plugin: String,
    lines: u32,
    /// The last line of level `error`: what a trap is explained with.
    pub last_error: Option<String>,
}

impl Log {
    pub fn new(plugin: &str) -> Self {
        Self {
            plugin: plugin.to_owned(),
            lines: 0,
            last_error: None,
        }
    }

    fn write(&mut self, level: log::Level, line: String) {
        let line: String = cut(line, MAX_LOG_LINE)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        self.lines = self.lines.saturating_add(1);
        let plugin = self.plugin.as_str();
        if self.lines <= MAX_LOG_LINES {
            match level {
                log::Level::Debug => tracing::debug!(target: "clawker::plugin", plugin, "{line}"),
                log::Level::Info => tracing::info!(target: "clawker::plugin", plugin, "{line}"),
                log::Level::Warn => tracing::warn!(target: "clawker::plugin", plugin, "{line}"),
                log::Level::Error => tracing::error!(target: "clawker::plugin", plugin, "{line}"),
            }
        }
        if matches!(level, log::Level::Error) {
            self.last_error = Some(line);
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        if let Some(dropped) = self.lines.checked_sub(MAX_LOG_LINES).filter(|dropped| *dropped > 0) {
            tracing::warn!(target: "clawker::plugin", plugin = self.plugin.as_str(), dropped, "log lines over the limit");
        }
    }
}

impl log::Host for CallState {
    fn write(&mut self, level: log::Level, line: String) -> Result<()> {
        self.log.write(level, line);
        Ok(())
    }
}

impl settings::Host for CallState {
    fn get(&mut self) -> Result<String> {
        Ok(self.settings.clone())
    }
}

impl types::Host for CallState {}
impl crate::bindings::policy::clawker::plugin::policy_types::Host for CallState {}
impl crate::bindings::step::clawker::plugin::step_types::Host for CallState {}
