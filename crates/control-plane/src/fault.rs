//! Named fault points: places where the end-to-end tests kill the control plane.
//!
//! With feature `faults`, `FAILPOINTS=<name>=1*return` makes the first passage of that point a SIGKILL to
//! ourselves. Without the feature, as in every release build, nothing is compiled in.

/// A point at which a test may end this process at once.
macro_rules! fault_point {
    ($name:literal) => {
        #[cfg(feature = "faults")]
        fail::fail_point!($name, |_| $crate::fault::die());
    };
}
pub(crate) use fault_point;

#[cfg(feature = "faults")]
pub(crate) fn die<T>() -> T {
    let me = rustix::process::getpid();
    loop {
        // The outcome doesn't matter: SIGKILL to oneself doesn't come back.
        let _ = rustix::process::kill_process(me, rustix::process::Signal::KILL);
    }
}
