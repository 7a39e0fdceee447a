//! How many descriptors PID 1 may have: as many as the container may. What it starts begins with what the container
//! began with, because a program may take a high limit badly.
//!
//! Each exec that is kept has its rings, and engines give as few as 1,024 to whoever doesn't ask for more. Some are
//! never given to an exec: without them neither a session half nor a connection could be had again, and nobody could
//! acknowledge anything.

use std::sync::OnceLock;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For signals, the half, the connection with what it brings, the gifts, a pipeline that is only being begun. Half of
/// what there is at most.
const RESERVE: u64 = 128;

/// The container's own limits.
static BEGAN: OnceLock<Rlimit> = OnceLock::new();

/// PID 1's first act about it.
pub fn raise() {
    let began = *BEGAN.get_or_init(|| getrlimit(Resource::Nofile));
    // Where it can't be, there are fewer.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: began.maximum,
            ..began
        },
    );
}

/// In a child that becomes the user's.
pub fn restore() {
    if let Some(began) = BEGAN.get() {
        let _ = setrlimit(Resource::Nofile, *began);
    }
}

/// Whether another exec leaves enough, when so many belong to execs already.
pub fn are_left(used: usize) -> bool {
    suffice(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), used as u64)
}

fn suffice(most: u64, used: u64) -> bool {
    let reserve = RESERVE.min(most.checked_div(2).unwrap_or_default());
    most.saturating_sub(used) > reserve
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_always_left() {
        for (most, used, enough) in [
            (u64::MAX, 5000, true),
            (1024, 0, true),
            (1024, 895, true),
            (1024, 896, false),
            (64, 31, true),
            (64, 32, false),
            (0, 0, false),
        ] {
            assert_eq!(suffice(most, used), enough, "{used} of {most}");
        }
    }
}
