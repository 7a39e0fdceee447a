//! What a plugin may use, and the caps on everything that crosses the boundary.

use std::time::Duration;

use crate::LoadError;

/// What one call may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Limits {
    /// Bytes of linear memory, all memories of a call together.
    pub memory: usize,
    /// Wasmtime's fuel, about one unit for each instruction. This is the limit that decides.
    pub fuel: u64,
    /// A safety net; whether it is reached depends on the machine.
    pub wall: Duration,
}

impl Limits {
    /// For one `evaluate`. Pure computation runs out of fuel in about 30 ms, well before the wall.
    pub const POLICY: Limits = Limits {
        memory: 64 << 20,
        fuel: 50_000_000,
        wall: Duration::from_millis(100),
    };
    /// For one `run`, which is one of as many as the step has effects. The step's own ten minutes are the caller's.
    pub const STEP: Limits = Limits {
        memory: 256 << 20,
        fuel: 1_000_000_000,
        wall: Duration::from_secs(10),
    };
    /// The same, but for what a plugin wants otherwise. The wall stays as far behind the fuel as it was.
    pub fn with(self, wanted: Wanted) -> Result<Self, LoadError> {
        let within = |what, wanted: Option<u64>, most: u64, unless: u64| match wanted {
            // A host's own are its own to choose.
            None => Ok(unless),
            Some(wanted) if (1..=most).contains(&wanted) => Ok(wanted),
            Some(wanted) => Err(LoadError::Limit { what, wanted, most }),
        };
        let memory = within("bytes of memory", wanted.memory, MAX_MEMORY as u64, self.memory as u64)?;
        let fuel = within("units of fuel", wanted.fuel, MAX_FUEL, self.fuel)?;
        let longer = u32::try_from(fuel.div_ceil(self.fuel.max(1))).unwrap_or(u32::MAX);
        Ok(Self {
            memory: usize::try_from(memory).unwrap_or(MAX_MEMORY),
            fuel,
            wall: self.wall.saturating_mul(longer.max(1)),
        })
    }

    /// For `describe` at load, when the machine may be busy starting: fuel decides, the wall is far.
    pub(crate) const DESCRIBE: Limits = Limits {
        wall: Duration::from_secs(5),
        ..Self::POLICY
    };
}

/// What a plugin wants in the place of its kind's limits; a policy in a language with an interpreter may need more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Bytes, [`MAX_MEMORY`] at most.
    pub memory: Option<u64>,
    /// Units, [`MAX_FUEL`] at most.
    pub fuel: Option<u64>,
}

/// Bytes of memory that a plugin may want for a call.
pub const MAX_MEMORY: usize = 256 << 20;
/// Units of fuel that a plugin may want for a call.
pub const MAX_FUEL: u64 = 1_000_000_000;
/// Core instances of a component, and tables of all of them. wit-component makes three of a Rust guest; an interpreter with
/// its libraries, as componentize-py links them, has some forty.
pub const MAX_INSTANCES: u32 = 64;
pub const MAX_TABLES: u32 = 64;
/// Bytes of a component.
pub const MAX_COMPONENT: usize = 32 << 20;
/// Bytes of a plugin's settings.
pub const MAX_SETTINGS: usize = 64 << 10;
/// Bytes of a settings schema.
pub const MAX_SCHEMA: usize = 64 << 10;
/// Bytes of a policy's state.
pub const MAX_STATE: usize = 16 << 10;
/// Verdicts of one decision.
pub const MAX_VERDICTS: usize = 16;
/// Bytes of a verdict's reason, of a step's message; longer ones are cut.
pub const MAX_TEXT: usize = 1 << 10;
/// Rules of one `restrict-egress`.
pub const MAX_ALLOW: usize = 64;
/// Windows of one policy.
pub const MAX_WINDOWS: usize = 16;
/// Seconds of a window.
pub const MAX_WINDOW_SECONDS: u32 = 86_400;
/// Effects of one step.
pub const MAX_EFFECTS: usize = 64;
/// Entries of an argv or env.
pub const MAX_ARGS: usize = 256;
/// Bytes of an argv or env together.
pub const MAX_ARGS_BYTES: usize = 128 << 10;
/// Bytes of a path.
pub const MAX_PATH: usize = 4 << 10;
/// Bytes of a file written or read.
pub const MAX_FILE: usize = 1 << 20;
/// Pieces of a file's content or a command's standard input.
pub const MAX_PIECES: usize = 256;
/// Secrets that a step may take in one call.
pub const MAX_TAKEN: usize = 256;
/// Seconds of one effect.
pub const MAX_EFFECT_SECONDS: u32 = 600;
/// Log lines of one call, and bytes of one line.
pub const MAX_LOG_LINES: usize = 64;
pub const MAX_LOG_LINE: usize = 1 << 10;

/// Calls of `log` and `settings` in one call: fuel counts a plugin's own work, and theirs is the host's.
pub const MAX_HOST_CALLS: u32 = 1024;

/// Bytes that wasmtime copies out of a guest in one call or host call.
pub(crate) const HOSTCALL_FUEL: usize = 2 << 20;
/// Table elements of a call, all tables together.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 10_000;

/// The first `max` bytes of `text`, cut where a character ends.
pub(crate) fn cut(mut text: String, max: usize) -> String {
    if text.len() > max {
        text.truncate(text.floor_char_boundary(max));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_gets_the_limits_it_wants_up_to_the_most() {
        let wanted = |memory, fuel| Limits::POLICY.with(Wanted { memory, fuel });
        assert_eq!(wanted(None, None), Ok(Limits::POLICY));
        let endless = Limits {
            fuel: u64::MAX,
            ..Limits::POLICY
        };
        assert_eq!(endless.with(Wanted::default()), Ok(endless));
        let most = wanted(Some(MAX_MEMORY as u64), Some(MAX_FUEL)).expect("the most");
        assert_eq!((most.memory, most.fuel), (MAX_MEMORY, MAX_FUEL));
        assert_eq!(most.wall, Limits::POLICY.wall * 20, "fuel still ends first");
        let less = wanted(Some(1), Some(7)).expect("less");
        assert_eq!((less.memory, less.fuel, less.wall), (1, 7, Limits::POLICY.wall));
        for (memory, fuel) in [
            (Some(0), None),
            (Some(MAX_MEMORY as u64 + 1), None),
            (None, Some(0)),
            (None, Some(MAX_FUEL + 1)),
            (None, Some(u64::MAX)),
        ] {
            assert!(
                matches!(wanted(memory, fuel), Err(LoadError::Limit { .. })),
                "{memory:?} {fuel:?}"
            );
        }
    }

    #[test]
    fn cutting_keeps_characters_whole() {
        assert_eq!(cut("häß".into(), 2), "h");
        assert_eq!(cut("abc".into(), 3), "abc");
        assert_eq!(cut("abcd".into(), 3), "abc");
    }
}
