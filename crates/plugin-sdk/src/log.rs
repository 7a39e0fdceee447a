//! Lines for the control plane's log: 64 in each call, of 1 KiB at most. Off WebAssembly they go to stderr.

/// For whoever develops the plugin.
pub fn debug(line: &str) {
    write(Level::Debug, line);
}

/// For operators who want to follow.
pub fn info(line: &str) {
    write(Level::Info, line);
}

/// Something an operator should know.
pub fn warn(line: &str) {
    write(Level::Warn, line);
}

/// Something is wrong. If the plugin traps, its last line of this level is the reason that people see.
pub fn error(line: &str) {
    write(Level::Error, line);
}

#[derive(Debug, Clone, Copy)]
enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

#[cfg(target_arch = "wasm32")]
fn write(level: Level, line: &str) {
    use crate::guest::policy::clawker::plugin::log;
    let level = match level {
        Level::Debug => log::Level::Debug,
        Level::Info => log::Level::Info,
        Level::Warn => log::Level::Warn,
        Level::Error => log::Level::Error,
    };
    log::write(level, line);
}

#[cfg(not(target_arch = "wasm32"))]
fn write(level: Level, line: &str) {
    eprintln!("{level:?}: {line}");
}
